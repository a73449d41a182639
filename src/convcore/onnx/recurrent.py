"""Recurrent layers, by NumPy."""

import numpy as np

from .registry import numpy_operator


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


_ACTIVATIONS = {
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": _sigmoid,
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Tanh": np.tanh,
}


def _functions(names, defaults, directions):
    """The activation functions of each direction."""
    names = names or defaults * directions
    unknown = {*names} - _ACTIVATIONS.keys()
    if unknown:
        raise ValueError(f"activations {sorted(unknown)} are not supported")
    each = len(names) // directions
    chosen = [_ACTIVATIONS[name] for name in names]
    return [chosen[i * each : (i + 1) * each] for i in range(directions)]


def _enter(name, defaults, states, step):
    """Enter a layer by its step.

    step(gates of the input, weights, bias, peepholes, state, functions, options)
    -> the new state: h alone, or h and c.
    """

    @numpy_operator(name)
    def layer(
        x,
        w,
        r,
        b=None,
        sequence_lens=None,
        initial_h=None,
        initial_c=None,
        p=None,
        *,
        activations=None,
        clip=None,
        direction="forward",
        hidden_size=None,
        input_forget=0,
        layout=0,
        linear_before_reset=0,
    ):
        if clip or input_forget:
            raise ValueError("clip and input_forget are not supported")
        x = np.swapaxes(x, 0, 1) if layout else x
        if sequence_lens is not None and np.any(sequence_lens != len(x)):
            raise ValueError("sequences of different lengths are not supported")
        directions, hidden = len(w), r.shape[2]
        functions = _functions(activations, defaults, directions)
        initial = [
            np.zeros((directions, x.shape[1], hidden), x.dtype)
            if state is None
            else np.swapaxes(state, 0, 1)
            if layout
            else state
            for state in (initial_h, initial_c)[:states]
        ]
        outputs, last = [], []
        for d in range(directions):
            backwards = direction == "reverse" or d == 1
            bias = np.zeros((2, w.shape[1]), x.dtype)
            bias = bias if b is None else b[d].reshape(2, -1)
            peepholes = np.zeros((3, hidden)) if p is None else p[d].reshape(3, -1)
            state, found = [s[d] for s in initial], []
            for row in x[::-1] if backwards else x:
                state = step(
                    row @ w[d].T + bias[0],
                    (r[d], bias[1], peepholes),
                    state,
                    functions[d],
                    linear_before_reset,
                )
                found.append(state[0])
            outputs.append(np.stack(found[::-1] if backwards else found))
            last.append(state)
        y = np.stack(outputs, 1)  # [time][direction][batch][hidden]
        ends = [np.stack(parts) for parts in zip(*last, strict=True)]
        if layout:
            y = y.transpose(2, 0, 1, 3)
            ends = [np.swapaxes(end, 0, 1) for end in ends]
        return tuple(a.astype(x.dtype) for a in (y, *ends))


def _rnn(gate, weights, state, functions, _):
    r, bias, _ = weights
    (h,) = state
    return (functions[0](gate + h @ r.T + bias),)


def _gru(gates, weights, state, functions, linear_before_reset):
    r, bias, _ = weights
    (h,) = state
    f, g = functions
    (zx, rx, hx), (zr, rr, hr), (zb, rb, hb) = (
        np.split(part, 3, axis) for part, axis in ((gates, -1), (r, 0), (bias, 0))
    )
    update, reset = f(zx + h @ zr.T + zb), f(rx + h @ rr.T + rb)
    if linear_before_reset:
        new = g(hx + reset * (h @ hr.T + hb))
    else:
        new = g(hx + (reset * h) @ hr.T + hb)
    return ((1 - update) * new + update * h,)


def _lstm(gates, weights, state, functions, _):
    r, bias, (pi, po, pf) = weights
    h, c = state
    f, g, k = functions
    i, o, forget, new = np.split(gates + h @ r.T + bias, 4, -1)
    c_new = f(forget + pf * c) * c + f(i + pi * c) * g(new)
    return f(o + po * c_new) * k(c_new), c_new


_enter("RNN", ("Tanh",), 1, _rnn)
_enter("GRU", ("Sigmoid", "Tanh"), 1, _gru)
_enter("LSTM", ("Sigmoid", "Tanh", "Tanh"), 2, _lstm)
