"""Frozen models: networks for inference only, their weights packed once."""

import mmap
import threading

import numpy as np

from ._config import call_threads, get_float32_precision
from .engine import Engine
from .folding import fold_batch_norm, fold_constants
from .model import Model, check_state, read_model
from .passes import drop_unread

_RUNNERS = 16  # of a model, each with memory for every thread that uses it
_RELEASES = hasattr(mmap, "MADV_DONTNEED")


class FrozenEngine(Engine):
    """An engine that holds most weights in packed form only.

    As they were they come back where another batch size needs other packed
    weights, or somebody reads `tensors`.
    """

    def __init__(self, graph, _training=None):
        self._lock = threading.RLock()
        self._released = {}  # name -> descriptor, packed weights
        self._is_read = False
        super().__init__(graph)

    def allocate(self, nbytes):
        """Pages that take no memory until they are written."""
        if nbytes == 0:
            return None
        self._pages = mmap.mmap(-1, nbytes)
        return np.frombuffer(self._pages, np.uint8)

    @property
    def tensors(self):
        """The parameters by key: from now on they stay in memory."""
        with self._lock:
            self._restore()
            self._is_read = True
        return self._tensors

    @tensors.setter
    def tensors(self, tensors):
        self._tensors = tensors

    def fill(self, tensors):
        """Take the elements that functions give: a dict by key, empty afterwards."""
        for key, tensor in self._tensors.items():
            tensor[...] = tensors.pop(key)()
        tensors.clear()

    def packed(self, plan, memory):
        with self._lock:
            if not plan.is_packed(self._version):
                self._restore()
            spare = None if self._is_read or not _RELEASES else self._release
            return plan.packed(memory, self.space, self._version, spare)

    def _release(self, name, conv, packed):
        """Give the pages of a parameter back that is packed now."""
        tensor = self._tensors[name]
        start = tensor.ctypes.data - self.space.ctypes.data
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (start + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        if length > 0:
            self._released[name] = conv, packed
            self._pages.madvise(mmap.MADV_DONTNEED, first, length)

    def _restore(self):
        for name, (conv, packed) in self._released.items():
            conv.unpack(packed, self._tensors[name])
        self._released.clear()


class FrozenModel(Model):
    """What `Model.freeze` gives: it predicts, and never learns.

    Batch normalisation is part of the weights before it; they are packed once
    for each batch size, on its first use; biases, activations and residual sums
    are computed within the convolutions. It shares nothing with the model that
    it was made of, and any number of threads may use it at once.

    `predict` gives the same bits as the model's where nothing is folded. (They
    may differ from those of the same functions called one by one: packed weights
    may choose another algorithm, see `explain_conv`.) A file that it saves is
    that of a `Model`, without batch normalisation.
    """

    _make_engine = FrozenEngine

    def __init__(self, model):
        graph = model.engine.graph.copy()
        tensors = dict(model.engine.tensors)
        self._freeze(graph, tensors, model.seed, model.input_dtype)

    def _freeze(self, graph, tensors, seed, input_dtype):
        """Set up; the dict of tensors is empty in the end: of a large network there
        are never two."""
        folded = fold_batch_norm(graph, tensors)
        fold_constants(graph, folded)
        tensors.clear()
        drop_unread([graph])
        self._setup(graph, None, seed, input_dtype)
        self._runners = {}  # by shape and precision; None: there can be none
        self.engine.fill(folded)

    def predict(self, x, outputs=None, *, batch_size=64):
        if outputs is not None or type(x) is not np.ndarray:
            return super().predict(x, outputs, batch_size=batch_size)
        key = x.shape, get_float32_precision()
        runner = self._runners.get(key)
        if runner is not None and x.shape[0] <= batch_size:
            y = runner.run(x, call_threads())
            if y is not None:
                return y
        y = super().predict(x, batch_size=batch_size)
        if key not in self._runners and 0 < len(x) <= batch_size:
            self._keep_runner(key, self._check_inputs(x)[0])
        return y

    predict.__doc__ = Model.predict.__doc__

    def _keep_runner(self, key, x):
        """From here on, run arrays like x without a look at them in Python."""
        if len(self._runners) == _RUNNERS:
            self._runners.clear()
        self._runners[key] = self.engine.runner(x)

    @classmethod
    def load(cls, path):
        """Read a file written by `save`, and freeze the model in it."""
        tensors, (graph, _), *others = read_model(path)
        model = cls.__new__(cls)
        tensors = check_state(tensors, graph.parameters)
        model._freeze(graph, tensors, *others)
        return model

    def _refuse(self, *args, **kwargs):
        """Raise TypeError: a frozen model does not learn."""
        raise TypeError(
            "a frozen model does not learn: train the model that it was made of, "
            "or Model.load of its file, and freeze that again"
        )

    fit = train_step = gradients = set_trainable = load_state_dict = _refuse
