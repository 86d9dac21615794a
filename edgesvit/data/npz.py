"""Data sets in one .npz: decoded arrays, event frames, or JPEG files laid end to end."""

import functools
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgesvit.data.dataset import Dataset, checked, spread, statistics
from edgesvit.data.pictures import decode_jpegs
from edgesvit.errors import UsageError


def load(path: Path, split: str, name: str, photos: bool) -> Dataset:
    """Keys `x_train`, `y_train`, test or val alike.

    JPEG files have `jpeg_train`, `off_train` in place of `x_train`. Event frames [N, T, C, H, W]
    have `frames_train`, `label_train`.
    """
    modified_ns = path.stat().st_mtime_ns
    arrays = _read(path, modified_ns)
    key = _split_key(arrays, split, path)
    labels = arrays[f"y_{key}"]
    images, labels = checked(_images(path, modified_ns, key), labels, f"{path} {key}")
    mean, std = _train_statistics(path, arrays)
    if "classes" in arrays:
        classes = tuple(str(c) for c in arrays["classes"])
    else:
        classes = tuple(str(c) for c in range(int(arrays["y_train"].max()) + 1))
    photos = photos or f"jpeg_{key}" in arrays
    return Dataset(images, labels, classes, mean, std, name, photos)


# Training, fine-tuning and evaluation in one process ask for the same files and pictures again, and
# decoding 60,000 of them takes seconds. Kept in memory only; the time stamp notices a new file.
@functools.lru_cache(maxsize=1)
def _read(path: Path, modified_ns: int) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(_renamed(key, file[key]) for key in file.files)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error):
        raise UsageError(
            f"{path} is not a readable .npz file of plain arrays",
            "copy the file again: it may be cut short",
        ) from None


def _renamed(key: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Event frames as images: `frames_train` is `x_train`, channels last."""
    if key.startswith("frames_") and array.ndim == 5:
        return key.replace("frames", "x"), np.ascontiguousarray(np.moveaxis(array, 2, -1))
    return key.replace("label_", "y_") if key.startswith("label_") else key, array


@functools.lru_cache(maxsize=2)
def _images(path: Path, modified_ns: int, key: str) -> np.ndarray:
    arrays = _read(path, modified_ns)
    if f"x_{key}" in arrays:
        images = arrays[f"x_{key}"]
    else:
        offsets = arrays[f"off_{key}"]
        images = decode_jpegs(arrays[f"jpeg_{key}"], offsets, range(len(offsets) - 1))
    images.flags.writeable = False
    return images


def _split_key(arrays: dict[str, np.ndarray], split: str, path: Path) -> str:
    for key in ("train",) if split == "train" else ("test", "val"):
        jpegs = f"jpeg_{key}" in arrays and f"off_{key}" in arrays
        if f"y_{key}" in arrays and (f"x_{key}" in arrays or jpegs):
            return key
    raise UsageError(
        f"{path} has no {split} split; its keys are {', '.join(arrays)}",
        f"it needs x_{split} and y_{split}, or jpeg_{split}, off_{split} and y_{split}",
    )


def _train_statistics(path: Path, arrays: dict[str, np.ndarray]) -> tuple[tuple, tuple]:
    key = _split_key(arrays, "train", path)
    labels = arrays[f"y_{key}"]
    chosen = spread(len(labels))
    if f"x_{key}" in arrays:
        images = arrays[f"x_{key}"][chosen]
    else:
        images = decode_jpegs(arrays[f"jpeg_{key}"], arrays[f"off_{key}"], chosen)
    return statistics(checked(images, labels[chosen], f"{path} {key}")[0])
