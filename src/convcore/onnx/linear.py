"""Products of matrices."""

import numpy as np

from .. import functional as F
from ..ops.base import Traced, apply
from ..ops.linear import LINEAR
from .arithmetic import add, mul
from .registry import operator
from .values import is_traced, permute, real, reshape, varies


@operator("Gemm")
def gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0, broadcast=0):
    if is_traced(a, b, c):
        a = permute(a, (1, 0)) if transA else a
        b = b if transB else permute(b, (1, 0))
        return _gemm_traced(a, b, c, alpha, beta)
    dtype = a.dtype
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y if alpha == 1 else y * alpha
    if c is not None:
        y = y + (c if beta == 1 else c * beta)
    return y.astype(dtype)


def _gemm_traced(a, weight, c, alpha, beta):
    # A layer where c is a bias, else a sum.
    is_layer = alpha == beta == 1 and not varies(weight) and c is not None
    if (
        is_layer
        and not varies(c)
        and c.shape in ((weight.shape[0],), (1, *weight.shape[:1]))
    ):
        return apply(LINEAR, a, weight, reshape(c, weight.shape[:1]), activation=None)
    y = apply(LINEAR, a, weight, None, activation=None)
    y = y if alpha == 1 else F.mul(y, float(alpha))
    if c is None:
        return y
    return add(y, c if beta == 1 else mul(c, np.asarray(beta, y.dtype)))


@operator("MatMul")
def matmul(a, b):
    if not is_traced(a, b):
        return np.matmul(a, b).astype(a.dtype, copy=False)
    if isinstance(a, Traced) and a.ndim == 2 and b.ndim == 2 and not varies(b):
        return apply(LINEAR, a, permute(b, (1, 0)), None, activation=None)
    return F.matmul(a, b)


@operator("Softmax")
@real
def softmax(x, *, axis=None, opset=13):
    return _softmax(F.softmax, x, axis, opset)


@operator("LogSoftmax")
@real
def log_softmax(x, *, axis=None, opset=13):
    return _softmax(F.log_softmax, x, axis, opset)


def _softmax(function, x, axis, opset):
    if opset >= 13:
        return function(x, -1 if axis is None else axis)
    # Along all dimensions from the axis on.
    axis = 1 if axis is None else axis % x.ndim
    if axis == x.ndim - 1 or all(n == 1 for n in x.shape[axis + 1 :]):
        return function(x, axis)
    rows = reshape(x, (*x.shape[:axis], -1))
    return reshape(function(rows, axis), x.shape)
