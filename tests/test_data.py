"""Files of data sets, batches, and augmentation."""

import gc
import gzip
import lzma
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from convcore.ahead import ahead
from convcore.data import (
    ArrayDataset,
    ImageFolder,
    cifar10,
    digits,
    load,
    load_image,
    mnist,
    read_idx,
)
from convcore.data.idx import encode_idx

SHARED = Path(__file__).parents[2] / "shared" / "data"


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is absent")
    return path


def numbered(count, size=6):
    """Images whose pixels hold the number of the image; y is the number, too."""
    x = np.zeros((count, 1, size, size), np.uint8)
    x += np.arange(count, dtype=np.uint8)[:, None, None, None]
    return ArrayDataset(x, np.arange(count))


# ------------------------------------------------------------------- IDX files


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_idx_round_trip(tmp_path, pack):
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    file = tmp_path / "images"
    file.write_bytes(pack(encode_idx(array)))
    np.testing.assert_array_equal(read_idx(file), array)


def test_idx_is_big_endian(tmp_path):
    file = tmp_path / "numbers"
    file.write_bytes(bytes([0, 0, 0x0C, 1, 0, 0, 0, 2, 0, 0, 1, 0, 0xFF] + [0xFF] * 3))
    numbers = read_idx(file)
    assert numbers.tolist() == [256, -1]
    assert numbers.dtype == np.dtype("int32")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file, begins with nothing"),
        (b"\x89PNG\r\n", "not an IDX file, begins with 89504e47"),
        (bytes([0, 0, 0x07, 1, 0, 0, 0, 0]), "unknown IDX element type 0x07"),
        (bytes([0, 0, 0x08, 3, 0, 0, 0, 1]), "truncated in the header, 8 bytes"),
        (
            bytes([0, 0, 0x08, 1, 0, 0, 0, 5, 1, 2, 3]),
            r"truncated, shape \(5,\) of uint8 takes 13 bytes with the header, got 11",
        ),
        (bytes([0, 0, 0x08, 1, 0, 0, 0, 1, 1, 2]), "too long"),
        (bytes([0, 0, 0x08, 4] + [0xFF] * 16), "truncated, shape"),
        (gzip.compress(bytes(100))[:20], "damaged compressed file"),
        (b"\x1f\x8b\x08\0garbage", "damaged compressed file"),
        (lzma.compress(bytes(100))[:40], "damaged compressed file"),
    ],
)
def test_idx_bad_file(tmp_path, content, message):
    file = tmp_path / "bad"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)


# ----------------------------------------------------------------------- MNIST


def write_mnist(folder, train=4, test=2, suffix=""):
    for part, count in (("train", train), ("t10k", test)):
        images = np.full((count, 28, 28), 7, np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = encode_idx(array)
            content = gzip.compress(content) if suffix else content
            (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_files(tmp_path, suffix):
    write_mnist(tmp_path, suffix=suffix)
    train, test = mnist(tmp_path)
    assert train.x.shape == (4, 1, 28, 28)
    assert test.y.tolist() == [0, 1]
    assert train.classes == tuple("0123456789")


def test_mnist_missing_file(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        mnist(tmp_path)


def test_mnist_labels_of_other_images(tmp_path):
    write_mnist(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(encode_idx(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=r"expected uint8 labels \(4,\), got uint8"):
        mnist(tmp_path)


def test_mnist_images_that_are_labels(tmp_path):
    write_mnist(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(encode_idx(np.zeros(4, np.uint8)))
    with pytest.raises(ValueError, match=r"expected uint8 images \(N, H, W\)"):
        mnist(tmp_path)


def test_mnist_official():
    train, test = mnist(shared("mnist"))
    assert (len(train), len(test)) == (60000, 10000)
    assert train.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


# -------------------------------------------------------------------- CIFAR-10


def test_cifar10(tmp_path):
    records = np.zeros((2, 3073), np.uint8)
    records[:, 0] = 3, 9
    records[1, 1 + 1024] = 200  # first green pixel of the second image
    for number in range(1, 6):
        records.tofile(tmp_path / f"data_batch_{number}.bin")
    records.tofile(tmp_path / "test_batch.bin")
    train, test = cifar10(tmp_path)
    assert train.x.shape == (10, 3, 32, 32)
    assert test.x[1, 1, 0, 0] == 200
    assert [test.classes[label] for label in test.y] == ["cat", "truck"]

    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(ValueError, match="records of 3073 bytes, got 3072"):
        cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(ValueError, match="label 10 is not below 10"):
        cifar10(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin"):
        cifar10(tmp_path)


# ------------------------------------------------------------- built-in digits


def test_digits():
    train, test = digits()
    assert train.x.shape == (5000, 1, 28, 28)
    assert test.x.shape == (1000, 1, 28, 28)
    assert np.bincount(train.y).tolist() == [500] * 10
    assert np.bincount(test.y).tolist() == [100] * 10


def test_digits_are_the_first_of_mnist():
    for subset, whole in zip(digits(), mnist(shared("mnist")), strict=True):
        for digit in range(10):
            images = subset.x[subset.y == digit]
            expected = whole.x[whole.y == digit][: len(images)]
            np.testing.assert_array_equal(images, expected)


def test_digits_file_is_small():
    import convcore.data

    folder = Path(convcore.data.__file__).parent
    assert (folder / "digits.idx.xz").stat().st_size < 1_300_000
    assert "CC BY-SA 3.0" in (folder / "NOTICE-digits.txt").read_text()


# --------------------------------------------------------------------- batches


def test_batches_in_order():
    batches = list(numbered(10).batches(4))
    assert [x.shape for x, _ in batches] == [(4, 1, 6, 6), (4, 1, 6, 6), (2, 1, 6, 6)]
    assert np.concatenate([y for _, y in batches]).tolist() == list(range(10))
    for x, y in batches:
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        np.testing.assert_allclose(x[:, 0, 0, 0], y / 255, rtol=1e-6)


def test_shuffling_depends_on_seed_and_epoch():
    dataset = numbered(100)

    def order(**options):
        return np.concatenate([y for _, y in dataset.batches(7, **options)]).tolist()

    first = order(seed=0)
    assert sorted(first) == list(range(100))
    assert first != list(range(100))
    assert order(seed=0) == first
    assert order(seed=0, epoch=1) != first
    assert order(seed=1) != first


def test_order_is_fixed_for_good():
    """A checkpoint is resumed in the order that it was begun with."""
    (_, y), *_ = numbered(20).batches(20, seed=3, epoch=2)
    assert y.tolist() == [
        3, 12, 5, 13, 18, 4, 7, 0, 16, 19, 9, 14, 1, 6, 2, 10, 8, 11, 15, 17,
    ]  # fmt: skip


@pytest.mark.parametrize("augment", [None, "shift", ("crop", "flip")])
def test_start_goes_on_where_a_run_stopped(augment):
    dataset = numbered(50)
    options = {"seed": 5, "epoch": 1, "augment": augment}
    whole = list(dataset.batches(8, **options))
    rest = list(dataset.batches(8, start=3, **options))
    assert len(whole) == dataset.steps(8) == 7
    assert len(rest) == 4
    for (x, y), (x_again, y_again) in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_float_samples_and_targets():
    x = np.random.default_rng(0).standard_normal((5, 3))
    dataset = ArrayDataset(x, x[:, 0])
    ((single, target),) = dataset.batches(5)
    assert single.dtype == target.dtype == np.float32
    ((double, target),) = dataset.batches(5, dtype=np.float64)
    assert double.dtype == target.dtype == np.float64
    np.testing.assert_array_equal(double, x)


def test_batches_do_not_alias_the_data():
    x = np.zeros((4, 2), np.float32)
    for batch, _ in ArrayDataset(x, np.zeros(4, int)).batches(4):
        batch += 1
    assert not x.any()


def test_batches_are_made_ahead():
    """While the first is in use, in order; what fails, fails in its place."""
    made, second = [], threading.Event()

    def batches():
        for number in range(5):
            made.append(threading.current_thread())
            if number == 1:
                second.set()
            if number == 4:
                raise ValueError("broken file")
            yield number

    seen = []
    with pytest.raises(ValueError, match="broken file"):
        for number in ahead(batches()):
            assert second.wait(10)
            seen.append(number)
    assert seen == [0, 1, 2, 3]
    assert threading.current_thread() not in made


def test_batches_that_nobody_wants_end():
    closed = threading.Event()

    def batches():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = ahead(batches())
    assert next(stream) == 0
    stream.close()
    gc.collect()
    assert closed.wait(10)


def test_split():
    dataset = ArrayDataset(
        numbered(100).x, np.arange(100), classes=map(str, range(100))
    )
    first, second = dataset.split(0.8, seed=1)
    assert (len(first), len(second)) == (80, 20)
    assert sorted([*first.y, *second.y]) == list(range(100))
    assert first.classes == dataset.classes
    assert first.x[7, 0, 0, 0] == first.y[7]
    again, _ = dataset.split(0.8, seed=1)
    other, _ = dataset.split(0.8, seed=2)
    assert again.y.tolist() == first.y.tolist() != other.y.tolist()


def test_empty_dataset():
    dataset = ArrayDataset(np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, int))
    assert list(dataset.batches(4, seed=0, augment="shift")) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ArrayDataset(np.zeros((3, 2), np.int32), np.zeros(3, int)),
            TypeError,
            "x must be uint8, float32 or float64, got int32",
        ),
        (
            lambda: ArrayDataset(np.zeros((3, 2)), np.array(["a", "b", "c"])),
            TypeError,
            "y must be integers or floats, got <U1",
        ),
        (
            lambda: ArrayDataset(np.zeros((3, 2)), np.zeros(4, int)),
            ValueError,
            r"as many samples: x \(3, 2\), y \(4,\)",
        ),
        (lambda: ArrayDataset(np.float32(1), np.zeros(1)), ValueError, "as many"),
        (
            lambda: numbered(3).batches(0),
            ValueError,
            "batch_size must be at least 1, not 0",
        ),
        (lambda: numbered(3).batches(2.5), TypeError, "batch_size .* not 2.5"),
        (lambda: numbered(3).split(1.5), ValueError, "fraction .* got 1.5"),
        (
            lambda: numbered(3).batches(2, seed=0, augment="twist"),
            ValueError,
            "augment must be a function or among 'shift', 'crop', 'flip', got 'twist'",
        ),
        (
            lambda: numbered(3).batches(2, augment="flip"),
            ValueError,
            "augment='flip' needs a seed",
        ),
        (
            lambda: ArrayDataset(np.zeros((3, 2)), np.zeros(3)).batches(
                2, seed=0, augment="flip"
            ),
            ValueError,
            r"needs samples \(C, H, W\), got \(2,\)",
        ),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------- augmentation


def augmented(dataset, batch_size, **options):
    """The samples of an epoch by their number."""
    result = np.zeros((len(dataset), *dataset.sample_shape), np.float32)
    for x, y in dataset.batches(batch_size, **options):
        result[y] = x
    return result


@pytest.mark.parametrize("augment", ["shift", "crop", "flip", ("flip", "shift")])
def test_augmentation_depends_on_the_sample_alone(augment):
    x = np.random.default_rng(0).integers(1, 256, (40, 3, 9, 7)).astype(np.uint8)
    dataset = ArrayDataset(x, np.arange(40))
    options = {"seed": 2, "epoch": 3, "augment": augment}
    expected = augmented(dataset, 40, **options)
    np.testing.assert_array_equal(augmented(dataset, 7, **options), expected)
    options["epoch"] = 4
    assert (augmented(dataset, 7, **options) != expected).any()


@pytest.mark.parametrize(("augment", "by"), [("shift", 2), ("crop", 4)])
def test_shift_moves_and_fills_with_zero(augment, by):
    count, size = 2000, 12
    x = np.random.default_rng(0).random((count, 2, size, size)) + 1
    dataset = ArrayDataset(x, np.arange(count))
    result = augmented(dataset, 100, seed=0, augment=augment)
    padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (by, by), (by, by)))
    seen = set()
    for image, original in zip(result, padded, strict=True):
        places = [
            (top, left)
            for top in range(2 * by + 1)
            for left in range(2 * by + 1)
            if (original[:, top : top + size, left : left + size] == image).all()
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == (2 * by + 1) ** 2


def test_flip_mirrors_half():
    x = np.random.default_rng(0).random((1000, 1, 4, 5)).astype(np.float32)
    dataset = ArrayDataset(x, np.arange(1000))
    result = augmented(dataset, 64, seed=0, augment="flip")
    flipped = (result == x[..., ::-1]).all((1, 2, 3))
    kept = (result == x).all((1, 2, 3))
    assert (flipped ^ kept).all()
    assert 420 < flipped.sum() < 580  # five standard deviations


def test_a_function_augments_samples_of_any_shape():
    dataset = ArrayDataset(np.zeros((50, 3)), np.arange(50))

    def noise(x, draws):
        return x + draws(0)[:, None] / 2.0**64

    result = augmented(dataset, 8, seed=0, augment=noise)
    assert 0 <= result.min() < 0.1 and 0.9 < result.max() <= 1
    np.testing.assert_array_equal(augmented(dataset, 7, seed=0, augment=noise), result)
    both = augmented(dataset, 7, seed=0, augment=(noise, lambda x, draws: -x))
    np.testing.assert_array_equal(both, -result)


# ---------------------------------------------------------------- image files


@pytest.fixture
def image_folder(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is absent")
    for number, name in enumerate(["apple", "pear"]):
        (tmp_path / name).mkdir()
        for index in range(3):
            pixels = np.full((8, 10, 3), (100 * number, index, 7), np.uint8)
            image_module.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    (tmp_path / "pear" / "notes.txt").write_text("no image")
    return tmp_path


def test_image_folder(image_folder):
    dataset = ImageFolder(image_folder)
    assert dataset.classes == ("apple", "pear")
    assert dataset.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.sample_shape == (3, 8, 10)
    x = dataset.take([4])
    assert x.dtype == np.uint8
    assert x[0, :, 0, 0].tolist() == [100, 1, 7]
    ((batch, _),) = dataset.batches(6)
    assert batch.max() == np.float32(100 / 255)

    first, second = dataset.split(0.5)
    assert (len(first), len(second)) == (3, 3)
    assert len(dataset) == 6
    assert first.take([0])[0, 0, 0, 0] == 100 * first.y[0]


def test_image_folder_sizes(image_folder):
    from PIL import Image

    Image.new("RGB", (20, 20)).save(image_folder / "pear" / "large.png")
    with pytest.raises(ValueError, match=r"large.png: shape \(3, 20, 20\), but the"):
        list(ImageFolder(image_folder).batches(7))
    dataset = ImageFolder(image_folder, size=(5, 6), mode="L")
    assert dataset.take([6, 0]).shape == (2, 1, 5, 6)


def test_image_folder_without_images(tmp_path):
    pytest.importorskip("PIL", reason="Pillow is absent")
    with pytest.raises(FileNotFoundError, match="no image in a folder per class"):
        ImageFolder(tmp_path)


def test_load_image_mode(image_folder):
    with pytest.raises(ValueError, match="mode must be 'RGB' or 'L', got 'P'"):
        load_image(image_folder / "pear" / "0.png", mode="P")


def test_images_without_pillow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'convcore\[images\]'"):
        ImageFolder(tmp_path)


def test_load_holds_out_the_last_of_each_class(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is absent")
    for number, name in enumerate(["apple", "pear"]):
        (tmp_path / name).mkdir()
        for i in range(20):
            image = image_module.new("RGB", (4, 3), (10 * number, i, 0))
            image.save(tmp_path / name / f"{i:02}.png")
    train, test = load(tmp_path)
    assert train.x.shape == (36, 3, 3, 4) and train.classes == ("apple", "pear")
    assert test.x[:, 1, 0, 0].tolist() == [18, 19, 18, 19]
    assert test.y.tolist() == [0, 0, 1, 1]

    (tmp_path / "train").mkdir()
    for name in ("apple", "pear"):
        (tmp_path / name).rename(tmp_path / "train" / name)
    assert len(load(tmp_path)[0]) == 36
    (tmp_path / "test" / "apple").mkdir(parents=True)
    image.save(tmp_path / "test" / "apple" / "0.png")
    assert [len(part) for part in load(tmp_path)] == [40, 1]


def test_load_knows_the_files(tmp_path):
    write_mnist(tmp_path)
    train, test = load(tmp_path)
    assert (len(train), len(test)) == (4, 2)
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        load(tmp_path / "absent")
