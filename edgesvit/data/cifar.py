"""CIFAR-10 in its official binary version (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path

import numpy as np

from edgesvit.data.dataset import Dataset, spread, statistics
from edgesvit.errors import UsageError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")
RECORD_BYTES = 1 + 3 * 32 * 32  # label, then the red, green and blue planes
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))


def find(path: Path) -> Path | None:
    """The folder at or below `path` that holds the binary batches."""
    folders = (path, path / "cifar-10-batches-bin")
    return next((f for f in folders if (f / TRAIN_FILES[0]).is_file()), None)


def load(path: Path, split: str, name: str) -> Dataset:
    """50,000 training or 10,000 test images; the python version of the files is refused."""
    folder = find(path)
    if folder is None:
        _refuse(path)
    train = _read([folder / file for file in TRAIN_FILES])
    images, labels = train if split == "train" else _read([folder / "test_batch.bin"])
    mean, std = statistics(train[0][spread(len(train[0]))])
    return Dataset(images, labels, CLASSES, mean, std, name, photos=True)


def _read(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    for file in files:
        size_bytes = file.stat().st_size if file.is_file() else 0
        if size_bytes == 0 or size_bytes % RECORD_BYTES:
            raise UsageError(
                f"{file} has {size_bytes} bytes, not a multiple of {RECORD_BYTES}",
                "unpack cifar-10-binary.tar.gz again",
            )
    records = np.concatenate([np.fromfile(f, np.uint8).reshape(-1, RECORD_BYTES) for f in files])
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)


def _refuse(path: Path) -> None:
    hint = "get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html"
    if (path / "data_batch_1").exists() or (path / "cifar-10-batches-py").exists():
        raise UsageError(
            f"{path} holds the pickled python version of CIFAR-10, which is not loaded: "
            "unpickling a file can run any program in it", hint)
    raise UsageError(f"{path} holds no CIFAR-10 binary batches (data_batch_1.bin ...)", hint)
