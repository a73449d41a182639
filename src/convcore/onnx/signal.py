"""Signals: Fourier transforms, windows and mel filters, by NumPy."""

import numpy as np

from .cast import numpy_dtype
from .registry import folded_operator, numpy_operator
from .values import axis_of, number


@numpy_operator("DFT")
def dft(x, dft_length=None, axis=None, *, inverse=0, onesided=0, opset=20):
    default = 1 if opset < 20 else -2
    axis = axis_of(default if axis is None else int(number(axis)), x.ndim)
    length = None if dft_length is None else int(number(dft_length))
    signal = x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]
    if inverse and onesided:
        y = np.fft.irfft(signal, length, axis)
        return y[..., None].astype(x.dtype)
    function = np.fft.ifft if inverse else np.fft.rfft if onesided else np.fft.fft
    y = function(signal, length, axis)
    return np.stack([y.real, y.imag], -1).astype(x.dtype)


@numpy_operator("STFT")
def stft(signal, frame_step, window=None, frame_length=None, *, onesided=1):
    step = int(number(frame_step))
    length = len(window) if frame_length is None else int(number(frame_length))
    window = np.ones(length) if window is None else window
    values = signal.reshape(*signal.shape[:2], -1)
    values = values[..., 0] if values.shape[2] == 1 else values @ np.array([1, 1j])
    count = (values.shape[1] - length) // step + 1
    frames = [values[:, i * step : i * step + length] * window for i in range(count)]
    transform = np.fft.rfft if onesided else np.fft.fft
    y = transform(np.stack(frames, 1), axis=-1)
    return np.stack([y.real, y.imag], -1).astype(signal.dtype)


def _enter_window(name, *weights):
    """A window that is a sum of cosines."""

    @folded_operator(name)
    def window(size, *, output_datatype=1, periodic=1):
        n = int(number(size))
        angle = 2 * np.pi * np.arange(n) / (n if periodic else n - 1)
        terms = (w * np.cos(k * angle) for k, w in enumerate(weights))
        return np.asarray(sum(terms), numpy_dtype(output_datatype))


_enter_window("HannWindow", 0.5, -0.5)
_enter_window("HammingWindow", 25 / 46, -21 / 46)
_enter_window("BlackmanWindow", 0.42, -0.5, 0.08)


@folded_operator("MelWeightMatrix")
def mel_weight_matrix(
    num_mel_bins, dft_length, sample_rate, lower, upper, *, output_datatype=1
):
    sizes = num_mel_bins, dft_length, sample_rate
    bins, length, rate = (int(number(size)) for size in sizes)

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    ends = np.linspace(mel(number(lower)), mel(number(upper)), bins + 2)
    places = np.floor((length + 1) * 700 * (10 ** (ends / 2595) - 1) / rate).astype(int)
    matrix = np.zeros((length // 2 + 1, bins))
    for i, (low, centre, high) in enumerate(
        zip(places[:-2], places[1:-1], places[2:], strict=True)
    ):
        matrix[centre, i] = low == centre
        rising = np.arange(low, centre)
        matrix[rising, i] = (rising - low) / max(centre - low, 1)
        falling = np.arange(centre, high)
        matrix[falling, i] = (high - falling) / max(high - centre, 1)
    return matrix.astype(numpy_dtype(output_datatype))
