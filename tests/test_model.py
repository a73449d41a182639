"""Models: training that repeats bit for bit, files, messages, threads."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import nn, optim, storage
from convcore.data import ArrayDataset
from convcore.metrics import Mean
from convcore.plan import Plan


def bars(n=200, seed=0):
    """Images of a bar whose place is the class, in noise: quickly learned."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 100, (n, 1, 28, 28)).astype(np.uint8)
    y = generator.integers(0, 10, n)
    for image, label in zip(x, y, strict=True):
        image[0, :, 4 + 2 * label : 6 + 2 * label] = 250
    return ArrayDataset(x, y)


def lenet(seed=0, **options):
    return cc.Model(cc.models.lenet5(), (1, 28, 28), seed=seed, **options)


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# ------------------------------------------------------------------- training


def fit(model, train, epochs=2, momentum=0.9, **options):
    optimizer = optim.SGD(0.05, momentum=momentum, weight_decay=1e-3)
    return model.fit(
        train, epochs=epochs, batch_size=32, optimizer=optimizer, augment="shift",
        schedule=optim.OneCycleLR(), **options,
    )  # fmt: skip


def test_fit_learns_and_tells():
    train, test = bars().split(0.75)
    model = lenet()
    history = model.fit(
        train,
        validation=test,
        epochs=6,
        batch_size=10,
        schedule=optim.CosineAnnealingLR(),
    )
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "lr"}
    assert all(len(values) == 6 for values in history.values())
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert history["val_accuracy"][-1] == model.evaluate(test)["accuracy"] > 0.9
    assert 0 < history["lr"][-1] < 0.01


def test_the_last_batch_may_be_smaller():
    """One step on 32 and one on 8 samples are what fit does with 40."""
    train, one, two = bars(40), lenet(), lenet()
    one.fit(train, batch_size=32, optimizer=optim.SGD(0.1))
    optimizer = optim.SGD(0.1)
    for x, y in train.batches(32, seed=0, epoch=0):
        two.train_step(x, y, optimizer=optimizer)
    assert optimizer.steps == 2
    assert_equal(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_threads_do_not_change_a_bit(name):
    x, y = networks.batch(name, 9, np.float32)
    states = []
    for threads in (1, 2, 3):
        model, optimizer = networks.model(name), optim.SGD(0.1, momentum=0.9)
        with cc.threads(threads):
            for _ in range(3):
                model.train_step(x, y, optimizer=optimizer)
            states.append(model.state_dict() | {"output": model.predict(x)})
    assert_equal(states[0], states[1])
    assert_equal(states[0], states[2])


def test_same_seed_same_bits():
    states = []
    for seed in (3, 3, 4):
        model = lenet(seed)
        fit(model, bars(100))
        states.append(model.state_dict())
    assert_equal(states[0], states[1])
    assert not np.array_equal(
        states[0]["features.0.bias"], states[2]["features.0.bias"]
    )


class StopError(Exception):
    pass


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("stop_after", [3, 7, 8, 13])
def test_resumed_training_gives_the_same_bits(
    tmp_path, monkeypatch, stop_after, momentum
):
    """7 steps an epoch, 2 epochs; a checkpoint every 3 steps and after epochs."""
    train, test = bars(200), bars(20, seed=1)
    whole = lenet()
    options = dict(momentum=momentum, validation=test)
    history = fit(whole, train, **options)

    stopped, steps = lenet(), 0
    true_step = stopped.engine.step

    def step(*arguments, **options):
        nonlocal steps
        if steps == stop_after:
            raise StopError
        steps += 1
        return true_step(*arguments, **options)

    monkeypatch.setattr(stopped.engine, "step", step)
    options |= dict(checkpoint=tmp_path, checkpoint_every=3, resume=True)
    with pytest.raises(StopError):
        fit(stopped, train, **options)
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]

    resumed = lenet(seed=0)
    assert fit(resumed, train, **options) == history
    assert_equal(resumed.state_dict(), whole.state_dict())
    assert_equal(cc.Model.load(tmp_path / "checkpoint.safetensors").state_dict(),
                 whole.state_dict())  # fmt: skip
    assert fit(lenet(), train, **options) == history  # nothing is left to do


def test_resume_of_another_run(tmp_path):
    fit(lenet(), bars(40), checkpoint=tmp_path)
    message = "another run: seed 0, now 1; samples 40, now 50"
    with pytest.raises(ValueError, match=message):
        fit(lenet(seed=1), bars(50), checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs checkpoint"):
        fit(lenet(), bars(40), resume=True)
    lenet().save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="is a saved model, not a checkpoint"):
        fit(lenet(), bars(40), checkpoint=tmp_path, resume=True)


def brighter(x, draws):
    """An augmentation of one's own, drawn for each sample."""
    return x // 2 + (draws(0) % np.uint64(100)).astype(np.uint8)[:, None, None, None]


def test_resume_with_an_augmentation_of_ones_own(tmp_path):
    """It is known by its name, which is the same in another process."""
    options = dict(checkpoint=tmp_path, resume=True)
    whole, resumed = lenet(), lenet()
    whole.fit(bars(40), epochs=2, augment=brighter)
    lenet().fit(bars(40), epochs=1, augment=brighter, **options)
    resumed.fit(bars(40), epochs=2, augment=brighter, **options)
    assert_equal(resumed.state_dict(), whole.state_dict())
    with pytest.raises(ValueError, match="augment 'brighter', now 'flip'"):
        lenet().fit(bars(40), augment="flip", **options)


def test_a_failed_step_leaves_everything_as_it_was():
    model, optimizer = lenet(), optim.SGD(0.1, momentum=0.9)
    x, y = networks.batch("lenet5", 4, np.float32)
    model.train_step(x, y, optimizer=optimizer)
    before, state = model.state_dict(), optimizer.state.copy()
    with pytest.raises(ValueError, match="target holds 10"):
        model.train_step(x, np.array([0, 1, 10, 2]), optimizer=optimizer)
    assert_equal(model.state_dict(), before)
    np.testing.assert_array_equal(optimizer.state, state)
    assert optimizer.steps == 1


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1])
def test_interrupt_leaves_the_last_complete_step(delay):
    """Ctrl-C at any moment: the parameters are those after a whole step."""
    train = bars(64)
    stopped, optimizer = lenet(), optim.SGD(0.05, momentum=0.9)
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(train, epochs=100_000, batch_size=32, optimizer=optimizer)
    timer.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    whole, again = lenet(), optim.SGD(0.05, momentum=0.9)
    batches = (
        batch for epoch in count() for batch in train.batches(32, seed=0, epoch=epoch)
    )
    for x, y in islice(batches, optimizer.steps):
        whole.train_step(x, y, optimizer=again)
    assert_equal(stopped.state_dict(), whole.state_dict())


def test_interrupt_waits_for_the_update(monkeypatch):
    x, y = networks.batch("lenet5", 4, np.float32)
    stopped, optimizer = lenet(), optim.SGD(0.05)
    true_run = Plan.run

    def run(plan, memory, parameters, state, first="forward", last="backward"):
        if first == "update":
            signal.raise_signal(signal.SIGINT)
        true_run(plan, memory, parameters, state, first, last)

    monkeypatch.setattr(Plan, "run", run)
    with pytest.raises(KeyboardInterrupt):
        stopped.train_step(x, y, optimizer=optimizer)
    monkeypatch.undo()
    whole = lenet()
    whole.train_step(x, y, optimizer=optim.SGD(0.05))
    assert_equal(stopped.state_dict(), whole.state_dict())
    assert optimizer.steps == 1


def test_progress_is_shown_when_asked_for(capsys):
    lenet().fit(bars(64), epochs=1, progress=True)
    shown = capsys.readouterr().err
    assert "epoch 1/1" in shown and "accuracy" in shown
    assert "1/1 " in shown
    lenet().fit(bars(64), epochs=1)
    assert capsys.readouterr().err == ""


def test_loss_by_function():
    model = lenet()
    x, y = networks.batch("lenet5", 4, np.float32)

    def smoothed(output, target):
        return cc.cross_entropy(output, target, label_smoothing=0.1)

    expected = cc.cross_entropy(model.predict(x), y, label_smoothing=0.1)
    for loss in (smoothed, nn.CrossEntropyLoss(label_smoothing=0.1)):
        value, _, _ = model.gradients(x, y, loss)
        assert value == pytest.approx(float(expected), rel=1e-6)


# ---------------------------------------------------------------------- using


def test_predict_in_batches_of_any_size():
    model = lenet()
    x, _ = networks.batch("lenet5", 7, np.float32)
    whole = model.predict(x)
    for batch_size in (1, 3, 100):
        found = model.predict(x, batch_size=batch_size)
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-6)
    assert model.predict(x[:0]).shape == (0, 10)


def test_predict_takes_any_memory_order():
    model = networks.model("inception")
    x, _ = networks.batch("inception", 3, np.float32)
    expected = model.predict(x)
    for other in (cc.channels_last(x), x[::-1].copy()[::-1], np.asfortranarray(x)):
        np.testing.assert_array_equal(model.predict(other), expected)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(model.predict(frozen), expected)


def test_results_do_not_alias():
    model = cc.Model(nn.Identity(), (3,))
    x = np.ones((2, 3), np.float32)
    first, second = model.predict(x), model.predict(x)
    assert not np.shares_memory(first, x) and not np.shares_memory(first, second)


def test_predict_and_gradients_from_many_threads():
    model = networks.model("inception")
    batches = [networks.batch("inception", 5, np.float32, seed) for seed in range(12)]

    def both(batch):
        x, y = batch
        return model.predict(x), model.gradients(x, y)[1]["3.weight"]

    expected = [both(batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            for found, one in zip(pool.map(both, batches), expected, strict=True):
                np.testing.assert_array_equal(found[0], one[0])
                np.testing.assert_array_equal(found[1], one[1])


def test_evaluate_counts_every_sample():
    model, test = lenet(), bars(50)
    x = test.x.astype(np.float32) / 255
    logits = model.predict(x)
    expected = float(cc.cross_entropy(logits, test.y))
    for batch_size in (50, 16):
        result = model.evaluate(test, batch_size=batch_size)
        assert result["loss"] == pytest.approx(expected, rel=1e-5)
        assert result["accuracy"] == (logits.argmax(1) == test.y).mean()


def test_integer_inputs_where_asked_for():
    x = np.random.default_rng(0).integers(0, 255, (3, 1, 28, 28)).astype(np.uint8)
    model = lenet(input_dtype="uint8")
    np.testing.assert_array_equal(model.predict(x), model.predict(x.astype(np.float32)))
    with pytest.raises(TypeError, match="x has dtype uint8, expected float32"):
        lenet().predict(x)


def test_cut_ends_at_an_inner_value(tmp_path):
    model = lenet(input_dtype="uint8")
    model.set_trainable("features.0.*", False)
    x, _ = networks.batch("lenet5", 3, np.float32)
    features = model.cut("features.5")
    expected = model.predict(x, "features.5")
    np.testing.assert_array_equal(features.predict(x), expected)
    assert set(features.state_dict()) == {
        key for key in model.state_dict() if key.startswith("features")
    }
    assert features.summary().endswith("2,572 parameters, 2,416 trainable")
    features.save(tmp_path / "m.safetensors")
    again = cc.Model.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), expected)
    assert features.input_dtype == again.input_dtype == np.uint8
    features.load_state_dict({k: 0 * v for k, v in features.state_dict().items()})
    np.testing.assert_array_equal(model.predict(x, "features.5"), expected)
    with pytest.raises(ValueError, match="no value 'nose'"):
        model.cut("nose")
    with pytest.raises(ValueError, match=r"no value 'classifier\.0'"):
        features.predict(x, "classifier.0")


def test_arrays_of_others():
    """What has only ``__dlpack__`` is an array too."""

    class Other:
        def __init__(self, array):
            self.__dlpack__ = array.__dlpack__
            self.__dlpack_device__ = array.__dlpack_device__

    x, y = networks.batch("lenet5", 3, np.float32)
    model = lenet()
    np.testing.assert_array_equal(model.predict(Other(x)), model.predict(x))
    assert model.gradients(Other(x), Other(y))[0] == model.gradients(x, y)[0]
    assert model.evaluate((Other(x), Other(y))) == model.evaluate((x, y))


def test_summary_of_rows():
    lines = networks.model("rows").summary().splitlines()
    assert lines[2].split() == ["1.reshape", "reshape", "(3N,", "7)", "0"]


def test_summary():
    lines = lenet().summary().splitlines()
    assert lines[1].split() == ["features.0", "conv", "(N,", "6,", "28,", "28)", "156"]
    assert lines[-1] == "61,706 parameters, 61,706 trainable"
    assert len(lines) == 14


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_save_and_load(tmp_path, name):
    model = networks.model(name, seed=5)
    x, y = networks.batch(name, 3, np.float32)
    model.save(tmp_path / "model.safetensors")
    back = cc.Model.load(tmp_path / "model.safetensors")
    assert_equal(back.state_dict(), model.state_dict())
    np.testing.assert_array_equal(back.predict(x), model.predict(x))
    assert back.summary() == model.summary()
    assert (back.seed, back.dtype) == (5, model.dtype)
    assert back.train_step(x, y, optimizer=optim.SGD(0.1)) == model.train_step(
        x, y, optimizer=optim.SGD(0.1)
    )


def test_weights_can_be_read_by_others(tmp_path):
    from safetensors.numpy import load_file

    model = lenet()
    model.save(tmp_path / "m.safetensors")
    assert_equal(dict(sorted(load_file(tmp_path / "m.safetensors").items())),
                 dict(sorted(model.state_dict().items())))  # fmt: skip


def test_files_of_others(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="is not a file that convcore wrote"):
        cc.Model.load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="holds no network"):
        cc.Model.load(path)
    save_file({"x": np.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="is not a file that convcore wrote"):
        cc.Model.load(path)
    graph = lenet().engine.graph.to_json()
    del graph["nodes"]
    storage.write(path, {}, lenet().metadata() | {"graph": graph})
    with pytest.raises(ValueError, match="is damaged: KeyError"):
        cc.Model.load(path)
    with pytest.raises(FileNotFoundError):
        cc.Model.load(tmp_path / "missing.safetensors")


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path, model = tmp_path / "m.safetensors", lenet()
    model.save(path)
    content = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lenet(seed=1).save(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["m.safetensors"]


# ------------------------------------------------------------------- messages


def test_state_dict_that_does_not_fit():
    model = lenet()
    state = model.state_dict()
    before = model.state_dict()
    state["nose"] = state.pop("features.0.bias")
    with pytest.raises(ValueError, match=r"missing features.0.bias; unknown nose"):
        model.load_state_dict(state)
    state = {key: x + 1 for key, x in before.items()}
    state["classifier.4.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"bias has shape \(3,\), expected \(10,\)"):
        model.load_state_dict(state)
    state["classifier.4.bias"] = np.zeros(10, np.int64)
    with pytest.raises(TypeError, match=r"classifier.4.bias has dtype int64"):
        model.load_state_dict(state)
    assert_equal(model.state_dict(), before)
    some = {"features.0.bias": np.ones(6), "nose": np.ones(1)}
    model.load_state_dict(some, strict=False)
    assert (model.state_dict()["features.0.bias"] == 1).all()


X, Y = np.zeros((4, 1, 28, 28), np.float32), np.zeros(4, np.int64)
BAD_CALLS = [
    (ValueError, r"\(N, 1, 28, 28\), got \(4, 28, 28\)", lambda m: m.predict(X[:, 0])),
    (TypeError, "x has dtype float64", lambda m: m.predict(X.astype(float))),
    (ValueError, "no value 'nose'", lambda m: m.predict(X, outputs="nose")),
    (
        ValueError,
        "'binary_cross_entropy_with_logits', got 'mae'",
        lambda m: m.gradients(X, Y, "mae"),
    ),
    (ValueError, "target holds -1, expected 0 to 9", lambda m: m.gradients(X, Y - 1)),
    (ValueError, "target holds 10", lambda m: m.evaluate((X, Y + 10))),
    (ValueError, "as many samples", lambda m: m.gradients(X, Y[:3])),
    (ValueError, "at least one", lambda m: m.gradients(X[:0], Y[:0])),
    (TypeError, "y has dtype float64", lambda m: m.gradients(X, Y.astype(float))),
    (ValueError, "target must have shape", lambda m: m.gradients(X, X[:, 0, 0, 0])),
    (ValueError, "a value of shape", lambda m: m.gradients(X, Y, lambda o, t: o)),
    (TypeError, "needs an optimizer", lambda m: m.train_step(X, Y)),
    (TypeError, "got 'sgd'", lambda m: m.fit((X, Y), optimizer="sgd")),
    (TypeError, "schedule .* got 'cos'", lambda m: m.fit((X, Y), schedule="cos")),
    (TypeError, "epochs must be an int, not 1.5", lambda m: m.fit((X, Y), epochs=1.5)),
    (ValueError, "epochs must be at least 0", lambda m: m.fit((X, Y), epochs=-1)),
    (ValueError, "checkpoint_every", lambda m: m.fit((X, Y), checkpoint_every=0)),
    (TypeError, "several inputs", lambda m: m.fit(((X, X), Y))),
    (ValueError, "batch_size .* not -1", lambda m: m.predict(X, batch_size=-1)),
    (
        ValueError,
        "no parameter matches 'nose'",
        lambda m: m.set_trainable("nose", False),
    ),
    (TypeError, "data set or a pair", lambda m: m.fit(X)),
    (TypeError, "dtype must be float32", lambda m: lenet(dtype="float16")),
    (TypeError, "dtype .* not 'nose'", lambda m: lenet(dtype="nose")),
    (TypeError, "seed must be an int, not 'a'", lambda m: lenet(seed="a")),
    (ValueError, "seed must be at least 0, not -1", lambda m: lenet(seed=-1)),
    (TypeError, "input_shape .* not 784", lambda m: cc.Model(nn.ReLU(), 784)),
    (ValueError, "input_shape .* at least 1", lambda m: cc.Model(nn.ReLU(), (0,))),
    (TypeError, "an nn.Module, got function", lambda m: cc.Model(cc.relu, (1,))),
]


@pytest.mark.parametrize(("error", "message", "call"), BAD_CALLS)
def test_messages(error, message, call):
    with pytest.raises(error, match=message):
        call(lenet())


def test_mean_leaves_accuracy_out_where_there_are_no_classes():
    mean = Mean()
    mean.add(0.5, np.zeros((4, 2)), np.zeros((4, 2)))
    mean.add(2.0, np.zeros((2, 2)), np.zeros((2, 2)))
    assert mean.result() == {"loss": 1.0}


def test_python_adds_little_to_a_step():
    """The call of a step on a network that computes almost nothing."""
    model = cc.Model(nn.Linear(2, 2), (2,))
    x, y = np.zeros((2, 2), np.float32), np.zeros(2, np.int64)
    optimizer = optim.SGD(0.1)
    model.train_step(x, y, optimizer=optimizer)
    seconds = []
    for _ in range(300):
        start = time.perf_counter()
        model.train_step(x, y, optimizer=optimizer)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < 500e-6  # about 25 microseconds on a quiet machine
    print(f"{np.median(seconds) * 1e6:.0f} microseconds a step")
