"""Where the package finds the files it ships, and where it may keep files of its own."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The shipped folder `name` (`firmware`, `targets`, `profiles`).

    An installed wheel carries it inside the package, a checkout keeps it at its top.
    """
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def shipped_model(name: str) -> Path:
    """The run folder of a trained model that ships with the package."""
    return _PACKAGE / "models" / "trained" / name


def cache_dir(*parts: str) -> Path:
    """A folder for what can be rebuilt at any time; created when missing.

    `EDGESVIT_CACHE` moves it; otherwise `XDG_CACHE_HOME/edgesvit` or `~/.cache/edgesvit`.
    """
    root = os.environ.get("EDGESVIT_CACHE")
    base = Path(root) if root else Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgesvit"
    folder = base.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
