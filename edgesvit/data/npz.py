"""Data sets in one .npz: decoded arrays, or JPEG files laid end to end with their offsets."""

import functools
import zipfile
from pathlib import Path

import numpy as np

from edgesvit.data.dataset import Dataset, checked, spread, statistics
from edgesvit.data.pictures import decode_jpegs
from edgesvit.errors import UsageError


def load(path: Path, split: str, name: str, photos: bool) -> Dataset:
    """Keys `x_train`, `y_train` (or `jpeg_train`, `off_train`, `y_train`); test or val alike."""
    arrays = _open(path)
    key = _split_key(arrays, split, path)
    images, labels = checked(_images(path, key), arrays[f"y_{key}"], f"{path} {key}")
    mean, std = _train_statistics(path, arrays)
    if "classes" in arrays:
        classes = tuple(str(c) for c in arrays["classes"])
    else:
        classes = tuple(str(c) for c in range(int(arrays["y_train"].max()) + 1))
    photos = photos or f"jpeg_{key}" in arrays
    return Dataset(images, labels, classes, mean, std, name, photos)


def _open(path: Path) -> np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UsageError(f"no data file {path}", "check the path behind the colon") from None
    except (OSError, ValueError, zipfile.BadZipFile):
        raise UsageError(
            f"{path} is not a readable .npz file", "copy the file again: it may be cut short"
        ) from None


def _split_key(arrays: np.lib.npyio.NpzFile, split: str, path: Path) -> str:
    for key in ("train",) if split == "train" else ("test", "val"):
        if f"y_{key}" in arrays and (f"x_{key}" in arrays or f"jpeg_{key}" in arrays):
            return key
    raise UsageError(
        f"{path} has no {split} split; its keys are {', '.join(arrays)}",
        f"it needs x_{split} and y_{split}, or jpeg_{split}, off_{split} and y_{split}",
    )


def _images(path: Path, key: str) -> np.ndarray:
    return _read_images(path, path.stat().st_mtime_ns, key)


# Training, fine-tuning and evaluation in one process ask for the same pictures again; decoding
# 60,000 of them takes seconds. Kept in memory only.
@functools.lru_cache(maxsize=2)
def _read_images(path: Path, modified_ns: int, key: str) -> np.ndarray:
    arrays = _open(path)
    if f"x_{key}" in arrays:
        images = arrays[f"x_{key}"]
    else:
        offsets = arrays[f"off_{key}"]
        images = decode_jpegs(arrays[f"jpeg_{key}"], offsets, range(len(offsets) - 1))
    images.flags.writeable = False
    return images


def _train_statistics(path: Path, arrays: np.lib.npyio.NpzFile) -> tuple[tuple, tuple]:
    key = _split_key(arrays, "train", path)
    chosen = spread(len(arrays[f"y_{key}"]))
    if f"x_{key}" in arrays:
        images = _images(path, key)[chosen]
    else:
        images = decode_jpegs(arrays[f"jpeg_{key}"], arrays[f"off_{key}"], chosen)
    return statistics(checked(images, arrays[f"y_{key}"][chosen], f"{path} {key}")[0])
