"""Data sets by a short name: `load("digits", "test")`, `load("cifar10:PATH", "train")`."""

from pathlib import Path

from edgesvit.data import cifar, digits, folder, idx, npz
from edgesvit.data.dataset import Dataset, normalise
from edgesvit.errors import UsageError

__all__ = ["Dataset", "load", "normalise"]

SPECS = "digits, cifar10:PATH, cifar100:PATH, fashion-mnist:PATH, mnist:PATH or folder:PATH?size=64"


def load(spec: str, split: str) -> Dataset:
    """The split `train` or `test` of a data set.

    `spec` is `digits`, or SOURCE:PATH with the source cifar10, cifar100, fashion-mnist, mnist or
    folder, or the path of an .npz file or folder that explains itself.
    """
    if split not in ("train", "test"):
        raise UsageError(f"no split '{split}'", "choose train or test")
    source, path, size = _parse(spec)
    if source == "digits":
        return digits.load(split)
    if not path.exists():
        raise UsageError(f"no data at {path}", f"--data takes {SPECS}")
    if path.suffix == ".npz":
        name = source if source != "folder" else path.stem
        return npz.load(path, split, name, photos=source in cifar.RELEASES)
    if source in cifar.RELEASES:
        return cifar.load(path, split, source)
    if source in ("mnist", "fashion-mnist"):
        return idx.load(path, split, source)
    return folder.load(path, split, path.name, size)


def _parse(spec: str) -> tuple[str, Path, int | None]:
    """`source:path?size=n` in its three parts; a bare path is recognised by what it holds."""
    if spec == "digits":
        return "digits", Path(), None
    source, colon, rest = spec.partition(":")
    if source not in (*cifar.RELEASES, "fashion-mnist", "mnist", "folder") or not colon:
        source, rest = "", spec
    text, _, option = rest.partition("?size=")
    if option and not (option.isdecimal() and int(option) > 0):
        raise UsageError(f"size '{option}' in {spec} is no number of pixels",
                         "for example folder:PATH?size=64")
    path = Path(text).expanduser()
    if not source and not path.exists():
        raise UsageError(f"unknown data '{spec}'", f"--data takes {SPECS}")
    return source or _recognise(path), path, int(option) if option else None


def _recognise(path: Path) -> str:
    if path.is_dir() and (name := cifar.find(path)):
        return name
    if path.is_dir() and idx.find(path):
        return "fashion-mnist" if "fashion" in path.resolve().name.lower() else "mnist"
    return "folder"
