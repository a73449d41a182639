"""Optimizers, and schedules of the learning rate.

An optimizer gives a plan its update steps; a schedule is any function
(epoch, epochs) -> factor of the optimizer's learning rate, where epoch is the
time since the start, counted in epochs and with a fraction.
"""

import math
import weakref

import numpy as np

from .plan import allocate


class Optimizer:
    """What all optimizers have in common.

    An optimizer trains one model: it holds the state and counts the steps.

    Attributes
    ----------
    lr : float
        Learning rate; may be changed between steps.
    steps : int
        Number of steps taken.
    slots : tuple of str
        Names of what is kept for each parameter.
    state : uint8 ndarray or None
        A range laid out as the parameters for each slot.
    """

    kind: str  # of its step in a plan
    names: tuple[str, ...]  # of its arguments
    _GRADIENT_SCALE: int  # its place in what `hyper` gives

    def __init__(self, slots=(), **arguments):
        for name, value in arguments.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value!r}")
        vars(self).update(arguments)
        self.slots = slots
        self.steps = 0
        self.state = None
        self._engine = None

    def __repr__(self):
        arguments = (f"{name}={getattr(self, name)}" for name in self.names)
        return f"{type(self).__name__}({', '.join(arguments)})"

    def bind(self, engine):
        """Take charge of an engine's parameters; ValueError if it has others."""
        if self._engine is None:
            self._engine = weakref.ref(engine)
            self.state = allocate(len(self.slots) * engine.layout.nbytes)
        elif self._engine() is not engine:
            raise ValueError(f"{self!r} trains another model: make a new optimizer")

    def hyper(self, factor=1.0):
        """What the next update step reads, float64: the members of its C struct.

        `factor` is of the learning rate. Gradients are not scaled.
        """
        raise NotImplementedError

    def scale_gradients(self, hyper, factor):
        """Let the step multiply all gradients by a factor."""
        hyper[self._GRADIENT_SCALE] = factor

    def lower(self, lowering, hyper, gradients, parameters, state):
        """Emit the steps that update one range of parameters.

        hyper, gradients and parameters are buffers, state has one per slot.
        """
        lowering.emit(self.kind, (hyper, gradients, parameters, *state))


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD.

    ``g += weight_decay p``, ``m = momentum m + (1 - dampening) g`` (``m = g``
    on the first step), ``p -= lr m``, or with Nesterov's momentum
    ``p -= lr (g + momentum m)`` (Sutskever et al., ICML 2013, with the
    learning rate outside of m).

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum, dampening, weight_decay : float
    nesterov : bool
        Needs a momentum and no dampening.
    """

    kind = "sgd"
    names = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
    _GRADIENT_SCALE = 4

    def __init__(
        self, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False
    ):
        super().__init__(
            ("momentum",) if momentum else (),
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
        )
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening = 0, "
                f"got momentum={momentum!r}, dampening={dampening!r}"
            )
        self.nesterov = bool(nesterov)

    def hyper(self, factor=1.0):
        given = self.lr * factor, self.momentum, self.dampening, self.weight_decay
        return np.array([*given, 1.0, self.nesterov, self.steps], np.float64)

    def lower(self, lowering, hyper, gradients, parameters, state):
        super().lower(lowering, hyper, gradients, parameters, state or (None,))


class Adam(Optimizer):
    """Adam (Kingma, Ba, ICLR 2015), as torch.optim.Adam.

    ``g += weight_decay p``; with t counting the steps from 1,
    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g**2`` and
    ``p -= lr m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)``.

    Parameters
    ----------
    lr : float
        Learning rate.
    betas : (float, float)
        b1 and b2, below 1.
    eps, weight_decay : float
    """

    kind = "adam"
    names = ("lr", "betas", "eps", "weight_decay")
    _GRADIENT_SCALE = 5
    _decoupled = False

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(("mean", "square"), lr=lr, eps=eps, weight_decay=weight_decay)
        self.betas = tuple(map(float, betas))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"betas must be two numbers from 0 to below 1, got {betas}"
            )

    def hyper(self, factor=1.0):
        given = self.lr * factor, *self.betas, self.eps, self.weight_decay
        return np.array([*given, 1.0, self._decoupled, self.steps], np.float64)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter, ICLR 2019), as
    torch.optim.AdamW: ``p *= 1 - lr weight_decay`` in place of a part of g.

    Parameters
    ----------
    lr, betas, eps, weight_decay
        As those of `Adam`.
    """

    _decoupled = True

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton, 2012), as torch.optim.RMSprop.

    ``g += weight_decay p``, ``v = alpha v + (1 - alpha) g**2``,
    ``m = momentum m + g / (sqrt(v) + eps)``, ``p -= lr m``.

    Parameters
    ----------
    lr : float
        Learning rate.
    alpha, eps, weight_decay, momentum : float
    """

    kind = "rmsprop"
    names = ("lr", "alpha", "eps", "weight_decay", "momentum")
    _GRADIENT_SCALE = 5

    def __init__(self, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
        super().__init__(
            ("square", "momentum") if momentum else ("square",),
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
        )

    def hyper(self, factor=1.0):
        given = self.lr * factor, self.alpha, self.eps, self.weight_decay, self.momentum
        return np.array([*given, 1.0], np.float64)

    def lower(self, lowering, hyper, gradients, parameters, state):
        state = (*state, None)[:2]
        super().lower(lowering, hyper, gradients, parameters, state)


def check_optimizer(optimizer):
    """Raise when this is not an optimizer."""
    if not hasattr(optimizer, "bind"):
        raise TypeError(
            f"training needs an optimizer, as in optim.SGD(lr=0.05), got {optimizer!r}"
        )


def check_clip_norm(clip_norm):
    """Give a positive number, or None."""
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be > 0, got {clip_norm!r}")
    return None if clip_norm is None else float(clip_norm)


class StepLR:
    """Multiply the learning rate by `gamma` every `step_size` epochs."""

    def __init__(self, step_size, gamma=0.1):
        if not step_size > 0:
            raise ValueError(f"step_size must be > 0 epochs, got {step_size!r}")
        self.step_size = step_size
        self.gamma = gamma

    def __call__(self, epoch, epochs):
        return self.gamma ** (epoch // self.step_size)


class CosineAnnealingLR:
    """Fall from 1 to `final` along half a cosine (Loshchilov, Hutter, 2017)."""

    def __init__(self, final=0.0):
        self.final = final

    def __call__(self, epoch, epochs):
        return _cosine(1.0, self.final, epoch / epochs)


class OneCycleLR:
    """Rise to the full learning rate, then fall, both along half a cosine.

    After Smith and Topin, 2018, as torch.optim.lr_scheduler.OneCycleLR.

    Parameters
    ----------
    pct_start : float
        Share of the time spent rising, between 0 and 1.
    div_factor : float
        The first factor is 1 / div_factor.
    final_div_factor : float
        The last factor is 1 / (div_factor final_div_factor).
    """

    def __init__(self, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
        if not 0 < pct_start < 1:
            raise ValueError(f"pct_start must be between 0 and 1, got {pct_start!r}")
        for name, value in dict(
            div_factor=div_factor, final_div_factor=final_div_factor
        ).items():
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        self.pct_start = pct_start
        self.first = 1 / div_factor
        self.final = self.first / final_div_factor

    def __call__(self, epoch, epochs):
        time = epoch / epochs
        if time < self.pct_start:
            return _cosine(self.first, 1.0, time / self.pct_start)
        return _cosine(1.0, self.final, (time - self.pct_start) / (1 - self.pct_start))


class Warmup:
    """Rise linearly from 0 during the first epochs, then follow a schedule.

    Parameters
    ----------
    warmup : float
        Length in epochs; the schedule starts when it has ended.
    schedule : callable, optional
        Default: constant.
    """

    def __init__(self, warmup, schedule=None):
        if not warmup > 0:
            raise ValueError(f"warmup must be > 0 epochs, got {warmup!r}")
        self.warmup = warmup
        self.schedule = schedule

    def __call__(self, epoch, epochs):
        if epoch < self.warmup:
            return epoch / self.warmup
        if self.schedule is None:
            return 1.0
        return self.schedule(epoch - self.warmup, epochs - self.warmup)


def _cosine(first, last, time):
    """From first (time 0) to last (time 1) along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * min(time, 1.0))) / 2
