"""ExecuTorch's wheel: which versions we take, and where its headers and libraries are.

Since 1.5 the wheel carries a C++ SDK for Linux on x86-64 and aarch64. What another release names
or places differently concerns this file and `read.py` alone.
"""

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.resources import cache_dir
from edgesvit.targets import Target

WANTED = {"executorch": "1.5", "torchao": "0.18", "torch": "2.13"}  # release series
INSTALL = "pip install 'edgesvit[executorch]'"
DEFINES = ("-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED")
_PLATFORM = "manylinux_2_28_aarch64"
_KEPT = ("executorch/include/", "executorch/lib/")


def check_versions() -> str:
    """The installed version of ExecuTorch; UsageError when a package is missing or wrong."""
    found = {name: _version(name) for name in WANTED}
    for name, series in WANTED.items():
        if found[name] is None:
            raise UsageError(f"the executorch runtime needs {name}, which is not installed",
                             INSTALL)
        if not f"{found[name]}.".startswith(f"{series}."):
            raise UsageError(f"the executorch runtime needs {name} {series}, not {found[name]}",
                             INSTALL)
    return found["executorch"]


def sdk(target: Target) -> Path:
    """The folder with `include` and `lib` of ExecuTorch for the target's processor.

    For another processor than ours its wheel is fetched once; EdgesvitError where that fails.
    """
    version = check_versions()
    if "aarch64" not in target.isa or platform.machine() == "aarch64":
        return Path(importlib.util.find_spec("executorch").submodule_search_locations[0])
    folder = cache_dir("executorch-sdk") / f"{version}-aarch64"
    if not folder.exists():
        _fetch(version, folder)
    return folder / "executorch"


def libraries(folder: Path) -> Path:
    """Where the SDK in `folder` keeps its shared libraries."""
    return folder / "lib"


def flags(folder: Path) -> list[str]:
    """What a compiler needs to use the SDK in `folder`."""
    include = folder / "include"
    portable = include / "executorch" / "runtime" / "core" / "portable_type" / "c10"
    return [*DEFINES, f"-isystem{include}", f"-isystem{portable}"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what PyTorch's and ExecuTorch's own code warns of."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _fetch(version: str, folder: Path) -> None:
    """Download the aarch64 wheel and keep its headers and libraries; renamed when complete."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        got = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--only-binary=:all:", "--python-version", "3.11", "--platform", _PLATFORM,
             "--dest", work, f"executorch=={version}"], capture_output=True, text=True)
        wheels = list(Path(work).glob("*.whl"))
        if got.returncode or not wheels:
            words = got.stderr.strip().splitlines() or ["nothing came"]
            raise EdgesvitError(f"cannot fetch ExecuTorch {version} for aarch64: {words[-1]}",
                                "needs a package index, this once; does `pip download` work?")
        unpacked = Path(work, "unpacked")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(unpacked, [n for n in wheel.namelist() if n.startswith(_KEPT)])
        try:
            os.rename(unpacked, folder)
        except OSError:  # another process was first: its folder is as good
            if not folder.is_dir():
                raise
            shutil.rmtree(unpacked, ignore_errors=True)
