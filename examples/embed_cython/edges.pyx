"""Gradient magnitude of an image, by convcore's C kernels without the GIL."""

from libc.math cimport hypotf

import numpy as np

from convcore cimport capi

cdef float[18] SOBEL = [-1, 0, 1, -2, 0, 2, -1, 0, 1,
                        -1, -2, -1, 0, 0, 0, 1, 2, 1]


def edges(const float[:, ::1] image):
    """Sobel gradient magnitude with zero padding.

    Parameters
    ----------
    image : (H, W) float32 ndarray, C-contiguous

    Returns
    -------
    (H, W) float32 ndarray
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], i, j
    gradient = np.empty((2, height, width), np.float32)
    magnitude = np.empty((height, width), np.float32)
    cdef float[:, :, ::1] g = gradient
    cdef float[:, ::1] m = magnitude
    cdef capi.cvc_status status

    # Three spatial axes: a plane has depth 1.
    cdef capi.cvc_conv conv = capi.cvc_conv(
        dtype=capi.CVC_F32, layout=capi.CVC_CHANNELS_FIRST,
        algorithm=capi.CVC_AUTO, precision=capi.CVC_HIGHEST,
        activation=capi.CVC_ACTIVATION_NONE, weights=capi.CVC_WEIGHTS_PLAIN,
        n=1, c=1, k=2, groups=1,
        size=[1, height, width], kernel=[1, 3, 3], stride=[1, 1, 1],
        pad_before=[0, 1, 1], pad_after=[0, 1, 1], dilation=[1, 1, 1])
    with nogil:
        status = capi.cvc_conv_forward(
            &conv, &image[0, 0], SOBEL, NULL, NULL, &g[0, 0, 0], NULL)
        if status == capi.CVC_OK:
            for i in range(height):
                for j in range(width):
                    m[i, j] = hypotf(g[0, i, j], g[1, i, j])
    if status != capi.CVC_OK:
        raise ValueError(f"convolution: {capi.cvc_status_text(status).decode()}")
    return magnitude
