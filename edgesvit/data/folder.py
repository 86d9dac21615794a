"""A folder of pictures: one sub-folder per class, with or without train and test above them."""

from pathlib import Path

import numpy as np

from edgesvit.data.dataset import Dataset, spread, statistics, stratified
from edgesvit.data.pictures import read_file
from edgesvit.errors import UsageError

ENDINGS = {".png", ".jpg", ".jpeg"}
TEST_SHARE = 0.2
SPLIT_SEED = 0


def load(path: Path, split: str, name: str, size: int | None) -> Dataset:
    """PATH/train/CLASS/*.png and PATH/test (or val), or PATH/CLASS/*.png split 80/20 by class."""
    classes = class_names(path / "train" if (path / "train").is_dir() else path)
    files, labels = _list(path, split, classes)
    train_files = files if split == "train" else _list(path, "train", classes)[0]
    sample = [train_files[i] for i in spread(len(train_files))]
    mean, std = statistics(_read_all(sample, size))
    return Dataset(_read_all(files, size), labels, classes, mean, std, name, photos=True)


def class_names(folder: Path) -> tuple[str, ...]:
    """The sub-folders that hold at least one picture, sorted by name."""
    names = [f.name for f in sorted(folder.iterdir()) if f.is_dir() and _pictures(f)]
    if len(names) < 2:
        raise UsageError(
            f"{folder} has {len(names)} sub-folders with PNG or JPEG files; a class is a folder",
            f"lay the pictures out as {folder}/CLASS/NAME.png",
        )
    return tuple(names)


def _list(path: Path, split: str, classes: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
    roots = ("train",) if split == "train" else ("test", "val")
    root = next((path / r for r in roots if (path / r).is_dir()), None)
    if root is None and (path / "train").is_dir():
        raise UsageError(f"{path} has train but neither test nor val", f"add {path}/test")
    pairs = [(f, label) for label, c in enumerate(classes) for f in _pictures((root or path) / c)]
    if not pairs:
        raise UsageError(f"{root or path} has no pictures of {', '.join(classes[:3])} ...",
                         "use the same class folders as in train")
    labels = np.array([label for _, label in pairs], np.int64)
    if root is not None:
        return [f for f, _ in pairs], labels
    train, test = stratified(labels, round(TEST_SHARE * len(labels)), SPLIT_SEED)
    chosen = train if split == "train" else test
    return [pairs[i][0] for i in chosen], labels[chosen]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in ENDINGS)


def _read_all(files: list[Path], size: int | None) -> np.ndarray:
    pictures = [read_file(file, size) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            height, width = picture.shape[:2]
            raise UsageError(
                f"{file} is {width} x {height} pixels, {files[0].name} is "
                f"{pictures[0].shape[1]} x {pictures[0].shape[0]}",
                "add a size to crop and resize all pictures, for example folder:PATH?size=64",
            )
    return np.stack(pictures)
