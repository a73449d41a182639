"""Models: a traced network with its parameters, to train, use, save and load."""

from contextlib import closing
from fnmatch import fnmatchcase
from math import prod

import numpy as np

from . import nn, storage
from ._config import get_num_threads
from .ahead import ahead
from .engine import Engine
from .graph import Graph
from .metrics import Mean
from .ops.base import INT64, as_numpy, check_real_dtype
from .ops.window import integer, sizes
from .optim import SGD, check_clip_norm, check_optimizer
from .passes import cut, drop_unread
from .profiling import profile
from .training import OPTIMIZER, as_dataset, fit


class Model:
    """A network for inputs of one shape.

    The module is traced once for inference and once for training; its
    parameters are drawn here, each from a stream of its own, in the order of
    the state_dict.

    Parameters
    ----------
    module : nn.Module
    input_shape : tuple of int, or list of tuples
        Shape of one sample, (C, H, W) for images; a list for several inputs.
    seed : int
        The same seed gives the same parameters, and the same training.
    dtype : {"float32", "float64"}
    input_dtype : optional
        Accept inputs of this dtype too, which are converted (not scaled).

    Examples
    --------
    >>> import numpy as np
    >>> import convcore as cc
    >>> model = cc.Model(cc.models.lenet5(), (1, 28, 28))
    >>> sum(x.size for x in model.state_dict().values())
    61706
    >>> model.predict(np.zeros((3, 1, 28, 28), np.float32)).shape
    (3, 10)
    """

    def __init__(
        self, module, input_shape, *, seed=0, dtype="float32", input_dtype=None
    ):
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be an nn.Module, got {type(module).__name__}")
        dtype, seed = check_real_dtype(dtype), integer(seed, "seed", 0)
        shapes = {"input": input_shape}
        if isinstance(input_shape, list):
            shapes = {f"input.{i}": shape for i, shape in enumerate(input_shape)}
        inputs = [
            (name, sizes(shape, "input_shape", 1), dtype)
            for name, shape in shapes.items()
        ]
        graph, state = nn.trace(module, inputs)
        training, _ = nn.trace(module, inputs, training=True)
        self._setup(graph, training, seed, input_dtype)
        for i, (key, tensor) in enumerate(state.items()):
            stream = np.random.SeedSequence(seed, spawn_key=(i,))
            tensor.fill(self.engine.tensors[key], stream)

    _make_engine = Engine

    def _setup(self, graph, training, seed, input_dtype):
        self.engine = self._make_engine(graph, training)
        self.seed = seed
        self.dtype = graph.inputs[0].dtype
        self.input_dtype = self.dtype if input_dtype is None else np.dtype(input_dtype)
        shapes = [x.shape[1:] for x in graph.inputs]
        self.input_shape = shapes[0] if len(shapes) == 1 else shapes

    # ---------------------------------------------------------------- using

    fit = fit

    def predict(self, x, outputs=None, *, batch_size=64):
        """Run the network.

        Parameters
        ----------
        x : array (N, ...), tuple of arrays for several inputs, or data set
        outputs : str or sequence of str, optional
            Names of inner values, see `summary`. Default: what the network
            returns.
        batch_size : int
            Samples that are run at once.

        Returns
        -------
        array (N, ...), or a tuple of arrays where there are several
        """
        batch_size = integer(batch_size, "batch_size", 1)
        names = tuple(self.engine.graph.outputs)
        if outputs is not None:
            names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        values = [self.engine.graph.find(name) for name in names]
        parts = [
            self.engine.predict(inputs, names) for inputs in self._split(x, batch_size)
        ]
        parts.append([np.empty((0, *v.shape[1:]), v.dtype) for v in values])
        joined = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        return joined[0] if len(joined) == 1 else joined

    def evaluate(self, dataset, *, loss="cross_entropy", batch_size=64):
        """Mean loss and accuracy on a data set or pair (x, y).

        Returns
        -------
        dict : {"loss": float, "accuracy": float}
            The accuracy is left out where targets are not class numbers.
        """
        mean = Mean()
        batches = as_dataset(dataset).batches(batch_size, dtype=self.dtype)
        with closing(ahead(batches)) as stream:
            for x, y in stream:
                inputs, target = self.check_batch(x, y)
                value, output, *_ = self.engine.loss(inputs, target, loss)
                mean.add(value, output, target)
        return mean.result()

    def train_step(self, x, y, loss="cross_entropy", optimizer=None, clip_norm=None):
        """One step of an optimizer on one batch.

        Parameters
        ----------
        x : array (N, ...), or tuple of arrays for several inputs
        y : array (N, ...)
            Targets: class numbers of any integer dtype, or floats.
        loss : str or function
            "cross_entropy", or a function of (output, target) that is traced
            like a module.
        optimizer : optim.SGD, Adam, AdamW or RMSprop
        clip_norm : float, optional
            Scale the gradients down where the norm of all of them together is
            larger, as `torch.nn.utils.clip_grad_norm_`.

        Returns
        -------
        float : the loss before the step
        """
        check_optimizer(optimizer)
        inputs, target = self.check_batch(x, y)
        clip_norm = check_clip_norm(clip_norm)
        value, *_ = self.engine.step(
            inputs, target, loss, optimizer, clip_norm=clip_norm, seed=self.seed
        )
        return float(value)

    def gradients(self, x, y, loss="cross_entropy", training=True):
        """Differentiate the loss of one batch.

        Parameters
        ----------
        x, y, loss
            As in `train_step`.
        training : bool
            Whether batch normalisation, dropout and whatever else differs in
            training behaves so. Running statistics do not change.

        Returns
        -------
        (loss, gradients, dx)
            float; dict of state_dict key -> array, of the trainable parameters
            that the loss depends on; array like x, or a tuple of them.
        """
        inputs, target = self.check_batch(x, y)
        value, gradients, dx = self.engine.gradients(
            inputs, target, loss, training=bool(training), seed=self.seed
        )
        return float(value), gradients, dx[0] if len(dx) == 1 else tuple(dx)

    @property
    def memory_limit(self):
        """Most bytes of the arrays of a training step; None: no limit.

        Where keeping all that the backward pass reads needs more, some of the
        forward pass is computed a second time: the same bits, more time. Where
        that is not enough, the step raises a MemoryError before it begins.
        """
        return self.engine.memory_limit

    @memory_limit.setter
    def memory_limit(self, nbytes):
        if nbytes is not None:
            nbytes = integer(nbytes, "memory_limit", 1)
        self.engine.memory_limit = nbytes

    def memory_plan(
        self, batch_size=64, *, train=True, loss="cross_entropy", optimizer=None
    ):
        """Bytes that a batch needs, before anything runs.

        Parameters
        ----------
        batch_size : int
        train : bool
            Of a training step; else of a prediction.
        loss : str or function
            As in `train_step`.
        optimizer : optional
            Default: ``SGD(lr=0.05, momentum=0.9)``.

        Returns
        -------
        MemoryPlan

        Raises
        ------
        MemoryError
            When the batch cannot fit into the `memory_limit`, or the machine.
        """
        n = integer(batch_size, "batch_size", 1)
        inputs = [
            np.broadcast_to(np.zeros((), x.dtype), (n, *x.shape[1:]))
            for x in self.engine.graph.inputs
        ]
        return self.engine.memory_plan(
            *self._purpose(inputs, None, train, loss, optimizer)
        )

    def profile(
        self,
        x,
        y=None,
        *,
        train=False,
        loss="cross_entropy",
        optimizer=None,
        repeats=5,
    ):
        """Time each operator on a batch. The model does not change.

        Parameters
        ----------
        x : array (N, ...), or tuple of arrays for several inputs
        y : array (N, ...), optional
            Targets. Default: zeros.
        train : bool
            Time a training step; else a prediction.
        loss : str or function
            As in `train_step`.
        optimizer : optional
            Default: ``SGD(lr=0.05, momentum=0.9)``.
        repeats : int
            A time is the median of so many.

        Returns
        -------
        Profile
            A table as a str, JSON values by `as_dict`.
        """
        repeats, inputs = integer(repeats, "repeats", 1), self._check_inputs(x)
        purpose = self._purpose(inputs, y, train, loss, optimizer)
        plan, seconds = self.engine.timed(*purpose, repeats)
        kind = "training step" if train else "prediction"
        title = f"{kind}, batch {len(inputs[0])}, {get_num_threads()} thread(s)"
        return profile(title, plan, seconds, get_num_threads())

    def _purpose(self, inputs, y, train, loss, optimizer):
        """What the engine is asked for: inputs, targets, loss and optimizer."""
        if not train:
            return inputs, None, None, None
        if optimizer is None:
            optimizer = SGD(lr=0.05, momentum=0.9)
        check_optimizer(optimizer)
        if y is None:
            n = len(inputs[0])
            output = next(iter(self.engine.graph.outputs.values()))
            of_class = loss in ("cross_entropy", "nll")
            shape = (n, *output.shape[2:]) if of_class else (n, *output.shape[1:])
            y = np.zeros(shape, np.int64 if of_class else self.dtype)
        return (*self._check_targets(inputs, y), loss, optimizer)

    def check_batch(self, x, y):
        """Inputs (a list) and targets of a batch as arrays for the engine."""
        return self._check_targets(self._check_inputs(x), y)

    def _check_targets(self, inputs, y):
        target = as_numpy(y)
        if target.dtype.kind in "iu":
            target = target.astype(np.int64, copy=False)
        elif target.dtype != self.dtype:
            raise TypeError(
                f"y has dtype {target.dtype}, expected integers or {self.dtype}"
            )
        if target.ndim == 0 or len(target) != len(inputs[0]) or not len(target):
            raise ValueError(
                "x and y must have as many samples, at least one: "
                f"x {inputs[0].shape}, y {target.shape}"
            )
        return inputs, target

    def _check_inputs(self, x):
        expected = self.engine.graph.inputs
        arrays = [x] if len(expected) == 1 else list(x)
        if len(arrays) != len(expected):
            raise ValueError(
                f"the network has {len(expected)} inputs, x has {len(arrays)} arrays"
            )
        return [
            self._check_input(array, value)
            for array, value in zip(arrays, expected, strict=True)
        ]

    def _check_input(self, array, value):
        array = as_numpy(array)
        if array.shape[1:] != value.shape[1:] or array.ndim != value.ndim:
            shape = ", ".join(map(str, ("N", *value.shape[1:])))
            raise ValueError(f"x must have shape ({shape}), got {array.shape}")
        if array.dtype == self.dtype:
            return array
        if array.dtype == self.input_dtype:
            return array.astype(self.dtype)
        raise TypeError(f"x has dtype {array.dtype}, expected {self.input_dtype}")

    def _split(self, x, batch_size):
        """Checked inputs, batch by batch."""
        if hasattr(x, "batches"):
            for batch, _ in x.batches(batch_size, dtype=self.dtype):
                yield self._check_inputs(batch)
            return
        inputs = self._check_inputs(x)
        if len({len(array) for array in inputs}) > 1:
            shapes = ", ".join(str(array.shape) for array in inputs)
            raise ValueError(f"the inputs must have as many samples, got {shapes}")
        for first in range(0, len(inputs[0]), batch_size):
            yield [array[first : first + batch_size] for array in inputs]

    def cut(self, name):
        """A copy that ends at an inner value: the features of a trained network.

        Parameters
        ----------
        name : str
            See `summary`.

        Returns
        -------
        Model
            With copies of the parameters that the value depends on.
        """
        graphs = self.engine.graph.copy(), self.engine.training.copy()
        for graph in graphs:
            cut(graph, name)
        drop_unread(graphs)
        model = Model.__new__(Model)
        model._setup(*graphs, self.seed, self.input_dtype)
        for key, tensor in model.engine.tensors.items():
            tensor[...] = self.engine.tensors[key]
        model.engine.trainable &= self.engine.trainable
        return model

    def freeze(self):
        """A copy for inference only, with the parameters as they are now.

        Returns
        -------
        FrozenModel
        """
        from .frozen import FrozenModel

        return FrozenModel(self)

    # ----------------------------------------------------------- parameters

    def set_trainable(self, pattern, trainable):
        """Let parameters learn, or not.

        Parameters
        ----------
        pattern : str
            A state_dict key, with ``*`` and ``?`` as in file names.
        trainable : bool
        """
        parameters = [k for k in self.engine.tensors if k not in self.engine.buffers]
        keys = {key for key in parameters if fnmatchcase(key, pattern)}
        if not keys:
            known = _list(parameters)
            raise ValueError(f"no parameter matches {pattern!r}; there are {known}")
        learning = self.engine.trainable
        self.engine.trainable = learning | keys if trainable else learning - keys

    def state_dict(self):
        """Copies of the parameters and buffers: dict of key -> array, in order."""
        return {key: tensor.copy() for key, tensor in self.engine.tensors.items()}

    def load_state_dict(self, state_dict, strict=True):
        """Set the parameters; nothing changes when something does not fit.

        Parameters
        ----------
        state_dict : dict of str -> array
            Floats, converted to the model's dtype; integers where it has those.
        strict : bool
            Whether all keys must be there and no others.
        """
        tensors = self.engine.tensors
        known = check_state(state_dict, tensors, strict)
        for key, array in known.items():
            tensors[key][...] = array
        self.engine.changed()

    # -------------------------------------------------------------- storage

    def save(self, path):
        """Write the network and its parameters to one safetensors file."""
        storage.write(path, self.engine.tensors, self.metadata())

    @classmethod
    def load(cls, path):
        """Read a file written by `save`, or a checkpoint of `fit`.

        Raises
        ------
        ValueError
            When it is another file.
        """
        tensors, graphs, *others = read_model(path)
        model = cls.__new__(cls)
        model._setup(*graphs, *others)
        model.load_state_dict(tensors)
        return model

    def export_onnx(self, path):
        """Write the network, for inference, to an ONNX file of any batch size.

        Needs the onnx package: the extra ``convcore[onnx]``.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        ValueError
            For an operator that ONNX has not, named with its node.
        """
        from .onnx.export import export

        export(self.engine.graph, self.engine.tensors, path)

    def metadata(self):
        """What a file has to hold beside the parameters."""
        graph, training = self.engine.graph.to_json(), self.engine.training.to_json()
        return {
            "graph": graph,
            "training": None if training == graph else training,
            "seed": self.seed,
            "input_dtype": self.input_dtype.name,
        }

    def summary(self):
        """A table of the operators: name, output shape, number of parameters.

        The names are those that `predict` takes as `outputs`.
        """
        graph, layout = self.engine.graph, self.engine.layout
        learned = {x for x in layout.offsets if x not in graph.buffers}
        rows, counted = [("name", "operator", "output", "parameters")], set()
        for node in graph.nodes:
            y = node.outputs[0]
            own = learned.intersection(node.inputs) - counted
            counted |= own
            # Traced for one sample: more rows are so many of each sample.
            first = "N" if y.shape[:1] == (1,) else f"{y.shape[0]}N"
            shape = ", ".join(map(str, (first, *y.shape[1:])))
            rows.append((y.name, node.op.name, f"({shape})", f"{_elements(own):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for *texts, size in rows:
            cells = [
                f"{text:{width}}" for text, width in zip(texts, widths, strict=False)
            ]
            lines.append("  ".join([*cells, f"{size:>{widths[-1]}}"]))
        learning = {graph.parameters[key] for key in self.engine.trainable}
        lines.append(
            f"{_elements(learned):,} parameters, {_elements(learning):,} trainable"
        )
        return "\n".join(lines)


def read_model(path):
    """What a file of a model holds: its tensors, both graphs, seed, input dtype.

    ValueError when it is another file.
    """
    tensors, metadata = storage.read(path)
    if "graph" not in metadata:
        raise ValueError(
            f"{path} holds no network: make a Model and use its load_state_dict"
        )
    try:
        graph = Graph.from_json(metadata["graph"])
        training = metadata["training"] and Graph.from_json(metadata["training"])
        others = metadata["seed"], np.dtype(metadata["input_dtype"])
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None
    own = {key: x for key, x in tensors.items() if not key.startswith(OPTIMIZER)}
    return own, (graph, training), *others


def check_state(state_dict, expected, strict=True):
    """Arrays for the tensors that are expected: dict by key.

    ValueError or TypeError where one does not fit.
    """
    arrays = {key: np.asarray(value) for key, value in state_dict.items()}
    missing = [key for key in expected if key not in arrays]
    unknown = [key for key in arrays if key not in expected]
    if strict and (missing or unknown):
        raise ValueError(
            "the keys do not fit the network: "
            f"missing {_list(missing)}; unknown {_list(unknown)}"
        )
    known = {key: arrays[key] for key in expected if key in arrays}
    for key, array in known.items():
        is_integer = expected[key].dtype == INT64
        if array.dtype.kind not in ("iu" if is_integer else "f"):
            kind = "ints" if is_integer else "floats"
            raise TypeError(f"{key} has dtype {array.dtype}, expected {kind}")
        if array.shape != expected[key].shape:
            shape = expected[key].shape
            raise ValueError(f"{key} has shape {array.shape}, expected {shape}")
    return known


def _elements(values):
    return sum(prod(x.shape) for x in values)


def _list(names):
    return ", ".join(names) or "none"
