"""MNIST and Fashion-MNIST in their official idx files, plain or gzip-compressed."""

import gzip
import struct
from pathlib import Path

import numpy as np

from edgesvit.data.dataset import Dataset, checked, spread, statistics
from edgesvit.errors import UsageError

FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                   "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DIGITS = tuple("0123456789")
STEMS = {"train": "train", "test": "t10k"}


def load(path: Path, split: str, name: str) -> Dataset:
    """60,000 training or 10,000 test images of 28 x 28 pixels from a folder of idx files."""
    images, labels = _pair(path, split)
    train = images if split == "train" else _pair(path, "train")[0]
    mean, std = statistics(train[spread(len(train))])
    classes = FASHION_CLASSES if "fashion" in name else DIGITS
    return Dataset(images, labels, classes, mean, std, name)


def find(path: Path, split: str = "train", kind: str = "images-idx3") -> Path | None:
    """The file of a split at `path`, or in the `raw` folder that some tools create."""
    for folder in (path, path / "raw"):
        for ending in ("", ".gz"):
            file = folder / f"{STEMS[split]}-{kind}-ubyte{ending}"
            if file.is_file():
                return file
    return None


def _pair(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        file = find(path, split, kind)
        if file is None:
            raise UsageError(
                f"no file {STEMS[split]}-{kind}-ubyte or .gz in {path}",
                "give the folder that holds the four idx files",
            )
        arrays.append(_read(file))
    return checked(arrays[0], arrays[1], f"{path} {split}")


def _read(file: Path) -> np.ndarray:
    """An idx file of unsigned bytes: magic 00 00 08 rank, big-endian sizes, data."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        if content[:3] != b"\0\0\x08":
            raise ValueError
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, struct.error):
        raise UsageError(f"{file} is no whole idx file of bytes", "download it again") from None
