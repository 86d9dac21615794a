"""CIFAR-10 and CIFAR-100 in their binary version (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgesvit.data.dataset import Dataset, spread, statistics
from edgesvit.errors import UsageError

PIXELS = 3 * 32 * 32  # the red, green and blue planes of a picture

CLASSES_100 = tuple("""
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm""".split())


@dataclass(frozen=True)
class Release:
    """How one of the two is stored: names of files, and where a label is."""

    train: tuple[str, ...]
    test: str
    label_bytes: int  # in front of the pixels; the last one is the class
    classes: tuple[str, ...]
    folder: str  # as unpacked
    archive: str


RELEASES = {
    "cifar10": Release(tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", 1,
                       ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
                        "ship", "truck"),
                       "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    "cifar100": Release(("train",), "test", 2, CLASSES_100,
                        "cifar-100-binary", "cifar-100-binary.tar.gz"),
}


def find(path: Path) -> str:
    """The name of the data set at or below `path`, '' when there is none."""
    return next((name for name, release in RELEASES.items() if _first(path, release)), "")


def load(path: Path, split: str, name: str) -> Dataset:
    """50,000 training or 10,000 test images of `name`, cifar10 or cifar100."""
    release = RELEASES[name]
    first = _first(path, release)
    if first is None:
        raise UsageError(
            f"{path} holds no {release.train[0]}.bin of {name} (the pickled python version is not "
            "loaded: unpickling a file can run any program in it)",
            f"get {release.archive} from https://www.cs.toronto.edu/~kriz/cifar.html")
    train = _read([first.with_name(f"{file}.bin") for file in release.train], release)
    images, labels = train
    if split != "train":
        images, labels = _read([first.with_name(f"{release.test}.bin")], release)
    mean, std = statistics(train[0][spread(len(train[0]))])
    return Dataset(images, labels, release.classes, mean, std, name, photos=True)


def _first(path: Path, release: Release) -> Path | None:
    """The first training file, at or below `path`."""
    name = f"{release.train[0]}.bin"
    files = (path / name, path / release.folder / name)
    return next((file for file in files if file.is_file()), None)


def _read(files: list[Path], release: Release) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C] and labels int64 [N]."""
    parts = [_read_file(file, release) for file in files]
    pixels, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    if labels.max() >= len(release.classes):
        raise UsageError(f"{files[0].parent} has labels up to {labels.max()} of "
                         f"{len(release.classes)} classes", f"unpack {release.archive} again")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _read_file(file: Path, release: Release) -> tuple[np.ndarray, np.ndarray]:
    record_bytes = release.label_bytes + PIXELS
    size_bytes = file.stat().st_size if file.is_file() else 0
    if size_bytes == 0 or size_bytes % record_bytes:
        raise UsageError(f"{file} has {size_bytes} bytes, not a multiple of {record_bytes}",
                         f"unpack {release.archive} again")
    records = np.fromfile(file, np.uint8).reshape(-1, record_bytes)
    return records[:, release.label_bytes:], records[:, release.label_bytes - 1]
