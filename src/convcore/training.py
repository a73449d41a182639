"""The training loop, and its checkpoints."""

import sys
from contextlib import closing, contextmanager
from pathlib import Path

from . import storage
from .ahead import ahead
from .metrics import Mean, loss_function
from .ops.window import integer
from .optim import SGD, check_clip_norm, check_optimizer

OPTIMIZER = "optimizer:"  # before the names of its tensors; no key has a colon
_FILE = "checkpoint.safetensors"


def fit(
    model,
    train,
    *,
    validation=None,
    epochs=1,
    batch_size=64,
    loss="cross_entropy",
    optimizer=None,
    schedule=None,
    clip_norm=None,
    augment=None,
    seed=None,
    checkpoint=None,
    checkpoint_every=None,
    resume=False,
    progress=None,
):
    """Train on a data set.

    The order of the samples and their augmentation are drawn from the seed,
    the epoch and the sample's number, dropout from the seed and the step. So
    the same seed gives the same parameters bit for bit, with any number of
    threads, and also when training was interrupted and resumed from a checkpoint.

    Ctrl-C leaves the model as it was after the last complete step. Batches are
    made in a background thread, augmentation included, while steps run.

    Parameters
    ----------
    train : data set, or pair of arrays (x, y)
    validation : data set or pair, optional
        Evaluated after each epoch.
    epochs, batch_size : int
    loss : str or function
        "cross_entropy", or a function of (output, target) that is traced like
        a module.
    optimizer : optim.SGD, Adam, AdamW or RMSprop, optional
        Default: ``SGD(lr=0.05, momentum=0.9)``.
    schedule : callable, optional
        (epoch, epochs) -> factor of the learning rate, see `convcore.optim`.
    clip_norm : float, optional
        Scale the gradients down where the norm of all of them together is larger.
    augment : str or function, or sequence of them, optional
        See `convcore.data.Dataset.batches`.
    seed : int, optional
        Default: the model's.
    checkpoint : str or Path, optional
        Folder of the checkpoint, one file, replaced in one piece.
    checkpoint_every : int, optional
        Steps from one checkpoint to the next; there is one after each epoch
        in any case.
    resume : bool
        Go on from the checkpoint, if there is one.
    progress : bool, optional
        Show a progress bar. Default: when standard error is a terminal.

    Returns
    -------
    dict of str -> list of float
        An entry per epoch of "loss" and "accuracy" (means over the epoch's
        steps), "val_loss" and "val_accuracy", and "lr" (of its last step).
    """
    train = as_dataset(train)
    loss_function(loss)
    optimizer = SGD(lr=0.05, momentum=0.9) if optimizer is None else optimizer
    check_optimizer(optimizer)
    if not (schedule is None or callable(schedule)):
        raise TypeError(
            f"schedule must be a function of (epoch, epochs), got {schedule!r}"
        )
    epochs = integer(epochs, "epochs", 0)
    batch_size = integer(batch_size, "batch_size", 1)
    if checkpoint_every is not None:
        checkpoint_every = integer(checkpoint_every, "checkpoint_every", 1)
    seed = model.seed if seed is None else integer(seed, "seed", 0)
    clip_norm = check_clip_norm(clip_norm)
    recipe = {
        "seed": seed,
        "samples": len(train),
        "batch_size": batch_size,
        "augment": _name_of(augment),
        "optimizer": repr(optimizer),
        "clip_norm": clip_norm,
    }
    run = _Run(model, optimizer, recipe, checkpoint)
    if resume:
        run.restore()
    show = sys.stderr.isatty() if progress is None else progress
    steps = train.steps(batch_size)
    done = run.epoch * steps + run.steps
    with _bar(show, epochs * steps, done) as advance:
        for epoch in range(run.epoch, epochs):
            batches = train.batches(
                batch_size,
                seed=seed,
                epoch=epoch,
                start=run.steps,
                augment=augment,
                dtype=model.dtype,
            )
            title = f"epoch {epoch + 1}/{epochs}"
            with closing(ahead(batches)) as stream:
                for x, y in stream:
                    if schedule is not None:
                        run.factor = schedule(epoch + run.steps / steps, epochs)
                    run.step(x, y, loss)
                    advance(1, title, run.mean.result())
                    if checkpoint_every and run.steps % checkpoint_every == 0:
                        run.save()
            run.end_epoch(validation, loss, batch_size)
            run.save()
            figures = {name: values[-1] for name, values in run.history.items()}
            advance(0, title, figures)
    return run.history


def as_dataset(data):
    """A data set as it is, or one of a pair of arrays."""
    if hasattr(data, "batches"):
        return data
    from .data import ArrayDataset

    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(
            f"expected a data set or a pair of arrays (x, y), got {type(data).__name__}"
        )
    if isinstance(data[0], tuple | list):
        raise TypeError(
            "x of a data set is one array: networks of several inputs are trained "
            "by train_step"
        )
    return ArrayDataset(*data)


def _name_of(augment):
    """An argument `augment` in words, the same in another process."""
    if isinstance(augment, list | tuple):
        return [_name_of(entry) for entry in augment]
    if callable(augment):
        return getattr(augment, "__qualname__", type(augment).__qualname__)
    return augment


class _Run:
    """Where a training run is, and its checkpoint."""

    def __init__(self, model, optimizer, recipe, folder):
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.path = None if folder is None else Path(folder) / _FILE
        self.epoch = 0
        self.steps = 0  # in this epoch
        self.factor = 1.0  # of the learning rate
        self.mean = Mean()
        self.history = {}

    def step(self, x, y, loss):
        inputs, target = self.model.check_batch(x, y)
        value, output, *_ = self.model.engine.step(
            inputs,
            target,
            loss,
            self.optimizer,
            factor=self.factor,
            clip_norm=self.recipe["clip_norm"],
            seed=self.recipe["seed"],
        )
        self.steps += 1
        self.mean.add(value, output, target)

    def end_epoch(self, validation, loss, batch_size):
        result = self.mean.result() | {"lr": self.optimizer.lr * self.factor}
        if validation is not None:
            found = self.model.evaluate(validation, loss=loss, batch_size=batch_size)
            result |= {f"val_{name}": value for name, value in found.items()}
        for name, value in result.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.steps, self.mean = self.epoch + 1, 0, Mean()

    def save(self):
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        progress = {
            "recipe": self.recipe,
            "epoch": self.epoch,
            "steps": self.steps,
            "factor": self.factor,
            "mean": vars(self.mean),
            "history": self.history,
            "optimizer_steps": self.optimizer.steps,
        }
        tensors = self.model.engine.tensors | self._slots()
        storage.write(self.path, tensors, self.model.metadata() | {"run": progress})

    def restore(self):
        """Go on from the checkpoint, if there is one."""
        if self.path is None:
            raise ValueError("resume=True needs checkpoint=, the folder it is in")
        if not self.path.exists():
            return
        tensors, metadata = storage.read(self.path)
        if "run" not in metadata:
            raise ValueError(f"{self.path} is a saved model, not a checkpoint")
        saved = metadata["run"]
        differing = [
            f"{name} {saved['recipe'].get(name)!r}, now {value!r}"
            for name, value in self.recipe.items()
            if saved["recipe"].get(name) != value
        ]
        if differing:
            raise ValueError(f"{self.path} is of another run: {'; '.join(differing)}")
        slots = {name: tensors.pop(name) for name in self._slots()}
        self.model.load_state_dict(tensors)
        for name, tensor in self._slots().items():
            tensor[...] = slots[name]
        self.optimizer.steps = saved["optimizer_steps"]
        self.epoch, self.steps = saved["epoch"], saved["steps"]
        self.factor, self.history = saved["factor"], saved["history"]
        self.mean = Mean(**saved["mean"])

    def _slots(self):
        """The optimizer's tensors by name, as views."""
        engine = self.model.engine
        self.optimizer.bind(engine)
        return {
            f"{OPTIMIZER}{slot}.{key}": tensor
            for i, slot in enumerate(self.optimizer.slots)
            for key, tensor in engine.views(self.optimizer.state, i).items()
            if key not in engine.buffers
        }


@contextmanager
def _bar(show, steps, done):
    """A progress bar: a function of (number of steps, title, figures to show)."""
    if not show:
        yield lambda steps, title, figures: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, initial=done, unit="step") as bar:

        def advance(steps, title, figures):
            bar.set_description(title, refresh=False)
            text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            bar.set_postfix_str(text, refresh=steps == 0)
            bar.update(steps)

        yield advance
