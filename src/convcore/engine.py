"""The engine of a model: its graph, its parameters and its plans."""

import signal
import threading
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial

import numpy as np

from . import _core
from ._config import get_float32_precision, get_num_threads
from .memory_plan import MemoryPlan, fitting_plan
from .metrics import loss_function
from .ops.loss import CROSS_ENTROPY, check_targets
from .ops.memory import is_channels_last
from .plan import Layout, Plan, allocate

_PLANS = 16  # kept; each with an arena for every thread that has run it


class Engine:
    """Runs batches of one network, given checked arrays.

    Any number of threads may use it at once, as long as none of them changes
    the parameters.

    Parameters
    ----------
    graph : Graph
        For inference, traced for one sample.
    training : Graph, optional
        For training, with the same parameters; default: the same graph.

    Attributes
    ----------
    graph, training : Graph
    layout : Layout
    space : uint8 ndarray
        The parameters and buffers, in one contiguous range.
    tensors : dict of str -> ndarray
        The same by state_dict key. Call `changed` after writing to them.
    buffers : frozenset of str
        Keys of the tensors that are not learned.
    trainable : frozenset of str
        Keys of the parameters that learn; all by default.
    memory_limit : int or None
        Most bytes of the arrays of a training step.
    """

    def __init__(self, graph, training=None):
        self.graph = graph
        self.training = graph if training is None else training
        self.layout = Layout(graph)
        self.space = self.allocate(self.layout.nbytes)
        self.tensors = self.views(self.space)
        self.buffers = frozenset(
            key for key, x in graph.parameters.items() if x in graph.buffers
        )
        self.trainable = frozenset(graph.parameters) - self.buffers
        self.memory_limit = None
        self._version = 0
        self._plans = OrderedDict()
        self._building = threading.Lock()

    allocate = staticmethod(allocate)

    def views(self, array, slot=0):
        """Tensors in an array laid out as the parameters: dict by key."""
        return {
            key: self.layout.view(array, x, slot)
            for key, x in self.graph.parameters.items()
        }

    def changed(self):
        """Say that parameters have changed: packed weights are made anew."""
        self._version += 1

    # --------------------------------------------------------------- running

    def predict(self, inputs, names):
        """Outputs or inner values of a batch, by name: list of arrays."""
        return self._infer(self._plan(inputs, names), inputs)

    def loss(self, inputs, target, loss):
        """Loss and outputs of a batch: list of arrays."""
        names = tuple(self.graph.outputs)
        plan = self._plan(inputs, names, loss, target)
        with _labels_explained(plan, target):
            return self._infer(plan, [*inputs, target])

    def gradients(self, inputs, target, loss, *, training, seed=0):
        """Differentiate the loss of a batch.

        Parameters
        ----------
        training : bool
            Whether the network is that for training. Its buffers do not change.
        seed : int
            Random numbers are those of the first step of a training.

        Returns
        -------
        (loss, gradients, input_gradients)
            Array (), dict by state_dict key, list of arrays like the inputs.
        """
        plan = self._plan(
            inputs,
            (),
            loss,
            target,
            training=training,
            wrt=self.trainable,
            wrt_inputs=True,
        )
        with (
            _labels_explained(plan, target),
            plan.memory([*inputs, target], (seed, 0)) as memory,
        ):
            plan.run(memory, self.space, None)
            value, *found = memory.outputs
            gradients = {
                key: plan.layout.view(memory.gradients, x).copy()
                for key, x in plan.graph.parameters.items()
                if x in plan.gradients
            }
        found = iter(found)
        input_gradients = [
            next(found) if x in plan.gradients else np.zeros_like(array)
            for x, array in zip(plan.graph.inputs, inputs, strict=False)
        ]
        return value, gradients, input_gradients

    def step(
        self, inputs, target, loss, optimizer, *, factor=1.0, clip_norm=None, seed=0
    ):
        """One step of an optimizer on a batch.

        Whatever ends a step early, the model is as it was before it.

        Parameters
        ----------
        factor : float
            Of the optimizer's learning rate.
        clip_norm : float, optional
            Largest norm of all gradients together.
        seed : int
            With the number of the step, what random numbers are drawn from.

        Returns
        -------
        list of arrays : the loss, then the network's outputs
        """
        plan = self._step_plan(inputs, target, loss, optimizer)
        optimizer.bind(self)
        hyper = optimizer.hyper(factor)
        draws = seed, optimizer.steps
        with (
            _labels_explained(plan, target),
            plan.memory([*inputs, target], draws, hyper) as memory,
        ):
            plan.run(memory, self.space, optimizer.state)
            if clip_norm is not None:
                gradients = memory.gradients.view(self.graph.inputs[0].dtype)
                norm = _core.sum_of_squares(gradients, get_num_threads()) ** 0.5
                optimizer.scale_gradients(hyper, min(1.0, clip_norm / (norm + 1e-6)))
            with _uninterrupted():
                plan.run(memory, self.space, optimizer.state, "update", "update")
                optimizer.steps += 1
                self.changed()
            return memory.outputs

    def runner(self, x):
        """A `_core.Runner` for arrays like x, with the parameters as they are.

        None where there is more than an input, an output and compiled steps, or x
        or the result is no dense array.
        """
        names = tuple(self.graph.outputs)
        plan = self._plan([x], names)
        with plan.memory([x]) as memory:
            return plan.runner(memory, self.space, self.packed(plan, memory))

    def memory_plan(self, inputs, target, loss, optimizer):
        """What a step needs of memory, or a prediction where there is no loss.

        Inputs and targets are examples.
        """
        if loss is None:
            plan = self._plan(inputs, tuple(self.graph.outputs))
        else:
            plan = self._step_plan(inputs, target, loss, optimizer)
        needed = plan.memory_bytes(get_num_threads())
        return MemoryPlan(len(inputs[0]), **needed, recomputed=plan.recomputed)

    def timed(self, inputs, target, loss, optimizer, repeats):
        """Times of a step, or a prediction where there is no loss.

        The model does not change: steps are made with a copy of its parameters.

        Returns
        -------
        (Plan, array) : the median seconds of each of its steps, NaN where a step
            does not run each time
        """
        if loss is None:
            plan = self._plan(inputs, tuple(self.graph.outputs))
            space, last, hyper = self.space, "forward", None
            with plan.memory(inputs) as memory:
                state = self.packed(plan, memory)
        else:
            plan = self._step_plan(inputs, target, loss, optimizer)
            inputs, space = [*inputs, target], allocate(self.layout.nbytes)
            np.copyto(space, self.space)
            state = allocate(len(optimizer.slots) * self.layout.nbytes)
            last, hyper = "update", optimizer.hyper()
        times = np.full((1 + repeats, len(plan.steps)), np.nan)
        for seconds in times:
            with plan.memory(inputs, hyper=hyper) as memory:
                plan.run(memory, space, state, "forward", last, seconds)
        return plan, np.median(times[1:], axis=0)

    def _step_plan(self, inputs, target, loss, optimizer):
        names = tuple(self.training.outputs)
        options = {"training": True, "wrt": self.trainable, "optimizer": optimizer}
        return self._plan(inputs, names, loss, target, **options)

    def packed(self, plan, memory):
        """The weights as a plan packs them."""
        return plan.packed(memory, self.space, self._version)

    def _infer(self, plan, inputs):
        with plan.memory(inputs) as memory:
            packed = self.packed(plan, memory)
            plan.run(memory, self.space, packed, "forward", "forward")
            return memory.outputs

    # ----------------------------------------------------------------- plans

    def _plan(self, inputs, names, loss=None, target=None, **options):
        """The plan of a batch size, memory order and purpose, made on first use.

        inputs and target are examples; the options are those of `_make_plan`.
        """
        optimizer = options.get("optimizer")
        first = tuple(
            x.ndim > 2 and not is_channels_last(x)
            for x in (*inputs, *([] if target is None else [target]))
        )
        key = (
            *(len(inputs[0]), first, names, loss, get_float32_precision()),
            None if target is None else (target.shape[1:], target.dtype),
            *(options.get(name) for name in ("training", "wrt", "wrt_inputs")),
            None if optimizer is None else (type(optimizer), optimizer.slots),
            self.memory_limit,
        )
        with self._building:
            if key in self._plans:
                self._plans.move_to_end(key)
                return self._plans[key]
            example = len(inputs[0]), names, loss, target
            make = partial(self._make_plan, *example, channels_first=first, **options)
            limit = self.memory_limit if "wrt" in options else None
            plan = fitting_plan(make, get_num_threads(), limit)
            self._plans[key] = plan
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
            return plan

    def _make_plan(
        self,
        n,
        names,
        loss,
        target,
        thrift,
        *,
        training=False,
        wrt=(),
        wrt_inputs=False,
        **options,
    ):
        graph = (self.training if training else self.graph).with_batch(n)
        sources = [x for key, x in graph.parameters.items() if key in wrt]
        if wrt_inputs:
            sources += graph.inputs
        outputs = [graph.find(name) for name in names]
        value = None
        if loss is not None:
            value = _add_loss(graph, loss, target)
            outputs.insert(0, value)
        return Plan(
            graph,
            outputs,
            loss=value,
            wrt=list(dict.fromkeys(sources)),
            precision=get_float32_precision(),
            thrift=thrift,
            **options,
        )


def _add_loss(graph, loss, target):
    """Trace a loss; it gets the output, or a tuple when there are several."""
    outputs = tuple(
        x for name, x in graph.outputs.items() if name not in graph.auxiliary
    )
    expected = graph.input((graph.batch, *target.shape[1:]), target.dtype, "target")
    function = loss_function(loss)
    value = function(outputs[0] if len(outputs) == 1 else outputs, expected)
    for name, weight in graph.auxiliary.items():
        value = value + weight * function(graph.outputs[name], expected)
    if getattr(value, "shape", None) != ():
        raise ValueError(
            f"loss must give a value of shape (), one number, not {value!r}"
        )
    return value


@contextmanager
def _labels_explained(plan, target):
    """Say which label is wrong, where the C library says only that one is."""
    try:
        yield
    except ValueError:
        for node in plan.graph.nodes:
            if node.op is CROSS_ENTROPY and node.inputs[1].name == "target":
                logits, ignored = node.inputs[0], node.attrs["ignore_index"]
                check_targets(target, logits.shape[1], ignored)
        raise


@contextmanager
def _uninterrupted():
    """Let Ctrl-C wait until the block has ended."""
    handler = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread()
    if not here or not callable(handler):
        yield
        return
    waiting = []
    signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for arguments in waiting[:1]:
            handler(*arguments)
