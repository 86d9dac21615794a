import gzip
import io
import pickle
import struct

import numpy as np
import pytest

from edgesvit.data import load
from edgesvit.errors import UsageError

RANDOM = np.random.RandomState(5)


def pixels(*shape) -> np.ndarray:
    return RANDOM.randint(0, 256, shape).astype(np.uint8)


def jpegs(images) -> tuple[np.ndarray, np.ndarray]:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    files = []
    for array in images:
        buffer = io.BytesIO()
        image.fromarray(array).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    return np.frombuffer(b"".join(files), np.uint8), offsets


# digits

def test_digits_split_and_pixels():
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == (8, 8, 1) and train.images.dtype == np.uint8
    assert train.images.max() == 255
    assert set(np.unique(train.images)) <= {round(p * 255 / 16) for p in range(17)}
    assert train.mean == test.mean and train.classes == tuple("0123456789")
    assert min(np.bincount(test.labels)) >= 34 and not test.photos
    both = {image.tobytes() for image in train.images} & {i.tobytes() for i in test.images}
    assert not both


# npz

@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x_train=pixels(30, 6, 6), y_train=np.arange(30) % 3,
             x_test=pixels(9, 6, 6), y_test=np.arange(9) % 3, classes=np.array(["a", "b", "c"]))
    return path


@pytest.mark.parametrize("spec", ["{}", "mnist:{}", "fashion-mnist:{}", "cifar10:{}"])
def test_npz_arrays(npz, spec):
    test = load(spec.format(npz), "test")
    assert test.images.shape == (9, 6, 6, 1) and test.classes == ("a", "b", "c")
    assert test.mean == load(str(npz), "train").mean
    assert test.photos == spec.startswith("cifar10")


def test_npz_of_jpegs_with_a_val_split(tmp_path):
    images = np.full((12, 8, 8, 3), 90, np.uint8)
    images[::2, ..., 0] = 200
    blob, offsets = jpegs(images)
    path = tmp_path / "photos.npz"
    np.savez(path, jpeg_train=blob, off_train=offsets, y_train=np.arange(12) % 2,
             jpeg_val=blob, off_val=offsets, y_val=np.arange(12) % 2)
    test = load(str(path), "test")
    assert test.images.shape == (12, 8, 8, 3) and test.photos and test.name == "photos"
    assert np.abs(test.images.astype(int) - images).max() <= 4  # JPEG is lossy
    assert test.classes == ("0", "1")


@pytest.mark.parametrize(
    ("keys", "split", "words"),
    [
        ({"x_train": pixels(3, 4, 4), "y_train": np.zeros(3)}, "test", "has no test split"),
        ({"x_test": pixels(3, 4, 4), "y_test": np.zeros(3)}, "train", "has no train split"),
        ({"x_train": pixels(3, 4, 4), "y_train": np.zeros(2)}, "train", "3 images and 2 labels"),
        ({"x_train": np.ones((3, 4, 4)), "y_train": np.zeros(3)}, "train", "float64"),
    ],
)
def test_npz_without_what_is_needed(tmp_path, keys, split, words):
    np.savez(tmp_path / "odd.npz", **keys)
    with pytest.raises(UsageError, match=words):
        load(str(tmp_path / "odd.npz"), split)


def test_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", x_train=np.array([{"a": 1}], object), y_train=np.zeros(1))
    with pytest.raises(UsageError, match="not a readable .npz"):
        load(str(tmp_path / "evil.npz"), "train")


def test_cut_npz(npz):
    npz.write_bytes(npz.read_bytes()[:500])
    with pytest.raises(UsageError, match="not a readable .npz"):
        load(str(npz), "train")


# CIFAR-10 binary

@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = pixels(4, 3073)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    return folder


def test_cifar_binary(cifar):
    for spec in (f"cifar10:{cifar}", str(cifar), f"cifar10:{cifar.parent}"):
        train, test = load(spec, "train"), load(spec, "test")
        assert train.images.shape == (20, 32, 32, 3) and len(test) == 4
    record = np.fromfile(cifar / "test_batch.bin", np.uint8)[:3073]
    assert test.labels[0] == record[0]
    assert test.images[0, 2, 5].tolist() == [record[1 + c * 1024 + 2 * 32 + 5] for c in range(3)]
    assert test.classes[3] == "cat" and test.photos


def test_cut_cifar_batch(cifar):
    (cifar / "data_batch_3.bin").write_bytes(b"x" * 4000)
    with pytest.raises(UsageError, match="data_batch_3.bin has 4000 bytes"):
        load(str(cifar), "train")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_pickled_cifar_is_refused(tmp_path, name):
    for file in ("data_batch_1", "train"):
        (tmp_path / file).write_bytes(pickle.dumps({b"data": b"", b"labels": []}))
    with pytest.raises(UsageError, match="unpickling a file can run any program") as caught:
        load(f"{name}:{tmp_path}", "train")
    assert "binary.tar.gz" in caught.value.hint


def test_cifar100_has_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    records = {name: pixels(n, 3074) for name, n in (("train", 30), ("test", 6))}
    for name, record in records.items():
        record[:, :2] %= np.array([20, 100], np.uint8)
        (folder / f"{name}.bin").write_bytes(record.tobytes())
    for spec in (f"cifar100:{tmp_path}", f"cifar100:{folder}", str(folder)):
        train, test = load(spec, "train"), load(spec, "test")
        assert (len(train), len(test), len(train.classes)) == (30, 6, 100) and train.photos
    assert test.labels.tolist() == records["test"][:, 1].tolist() and test.name == "cifar100"
    red = records["test"][4, 2:2 + 1024].reshape(32, 32)
    assert (test.images[4, ..., 0] == red).all()
    assert train.classes[0] == "apple" and train.classes[99] == "worm"
    assert list(train.classes) == sorted(set(train.classes))


def test_a_folder_called_train_is_no_cifar100(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UsageError, match="holds no train.bin of cifar100"):
        load(f"cifar100:{tmp_path}", "train")


def test_a_label_beyond_the_classes(cifar):
    (cifar / "data_batch_2.bin").write_bytes(bytes([77]) + bytes(3072))
    with pytest.raises(UsageError, match="labels up to 77 of 10 classes"):
        load(str(cifar), "train")


# idx

def write_idx(path, array, compress):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = head + array.tobytes()
    if compress:
        path = path.with_name(path.name + ".gz")
        content = gzip.compress(content)
    path.write_bytes(content)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files(tmp_path, compress):
    images, labels = pixels(6, 5, 4), np.arange(6, dtype=np.uint8)
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte", images, compress)
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte", labels, compress)
    fashion = load(f"fashion-mnist:{tmp_path}", "test")
    assert np.array_equal(fashion.images[..., 0], images) and fashion.classes[9] == "Ankle boot"
    assert load(str(tmp_path), "train").classes == tuple("0123456789")


def test_damaged_and_missing_idx_files(tmp_path):
    with pytest.raises(UsageError, match="no file train-images-idx3-ubyte"):
        load(f"mnist:{tmp_path}", "train")
    write_idx(tmp_path / "train-images-idx3-ubyte", pixels(6, 5, 4), False)
    write_idx(tmp_path / "train-labels-idx1-ubyte", pixels(6), False)
    file = tmp_path / "train-images-idx3-ubyte"
    for damaged in (file.read_bytes()[:-1], b"\0\0\x0d\x03abc", b""):
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match="no whole idx file"):
            load(f"mnist:{tmp_path}", "train")


# folders

def picture(path, height=6, width=6, colour=(10, 20, 30)):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", (width, height), colour).save(path)


def test_folder_without_splits_is_split_by_class(tmp_path):
    for name, colour in (("dog", (200, 0, 0)), ("cat", (0, 0, 200))):
        for i in range(10):
            picture(tmp_path / name / f"{i}.png", colour=colour)
    train, test = load(f"folder:{tmp_path}", "train"), load(str(tmp_path), "test")
    assert (len(train), len(test)) == (16, 4) and train.classes == ("cat", "dog")
    assert np.bincount(test.labels).tolist() == [2, 2]
    assert test.images[0, 0, 0].tolist() == [0, 0, 200]


def test_folder_with_splits_and_sizes(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "a" / "1.png", 6, 9)
        picture(tmp_path / split / "b" / "1.png", 12, 7)
    with pytest.raises(UsageError, match="7 x 12 pixels.*9 x 6") as caught:
        load(f"folder:{tmp_path}", "train")
    assert "?size=" in caught.value.hint
    assert load(f"folder:{tmp_path}?size=4", "test").images.shape == (2, 4, 4, 3)
    with pytest.raises(UsageError, match="size 'x'"):
        load(f"folder:{tmp_path}?size=x", "test")


def test_folder_with_a_broken_picture(tmp_path):
    for name in "ab":
        picture(tmp_path / "train" / name / "1.png")
    (tmp_path / "train" / "a" / "2.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="2.png cannot be read"):
        load(f"folder:{tmp_path}", "train")
    with pytest.raises(UsageError, match="neither test nor val"):
        load(f"folder:{tmp_path}", "test")


def test_missing_pillow_is_one_line(tmp_path, monkeypatch):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(UsageError, match="needs Pillow") as caught:
        load(str(tmp_path), "train")
    assert caught.value.hint.startswith("pip install")


@pytest.mark.parametrize(
    ("spec", "split", "words"),
    [
        ("digits", "val", "no split 'val'"),
        ("imagenet", "train", "unknown data 'imagenet'"),
        ("mnist:/nowhere/at/all", "train", "no data at /nowhere/at/all"),
        ("/nowhere/at/all.npz", "train", "unknown data"),
    ],
)
def test_unknown_data(spec, split, words):
    with pytest.raises(UsageError, match=words) as caught:
        load(spec, split)
    assert caught.value.hint


def test_empty_folder(tmp_path):
    with pytest.raises(UsageError, match="0 sub-folders"):
        load(str(tmp_path), "train")


# the shared data sets

def test_shared_sets_load(shared):
    folder = shared / "datasets"
    fashion = load(f"fashion-mnist:{folder / 'fashion_mnist' / 'fashion_mnist.npz'}", "test")
    assert fashion.images.shape == (10000, 28, 28, 1)
    assert fashion.mean[0] == pytest.approx(0.2860, abs=0.01)
    pytest.importorskip("PIL", reason="needs Pillow")
    photos = load(str(folder / "imagenette64" / "imagenette64.npz"), "test")
    assert photos.images.shape == (3925, 64, 64, 3) and photos.classes[0] == "tench"
