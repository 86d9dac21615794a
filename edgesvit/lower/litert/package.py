"""The ai-edge-litert package: its schema, its library, and the release that is known to work."""

import importlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from edgesvit.errors import EdgesvitError
from edgesvit.resources import cache_dir

# The C interface is not promised to stay: firmware/litert/litert.h is this release's.
PACKAGE, RELEASE = "ai-edge-litert", "2.3.0"
LIBRARY = "libLiteRt.so"
_HINT = "pip install 'edgesvit[litert]'"
_ARM_WHEEL = "manylinux_2_27_aarch64"


def need_release() -> None:
    """Raise EdgesvitError, with the command that helps, unless the right release is installed."""
    for name in (PACKAGE, "flatbuffers"):
        try:
            found = version(name)
        except PackageNotFoundError:
            raise EdgesvitError(f"the litert runtime needs {name}, which is not installed",
                                _HINT) from None
        if name == PACKAGE and found != RELEASE:
            raise EdgesvitError(f"the litert runtime needs {PACKAGE} {RELEASE}, found {found}",
                                f"pip install {PACKAGE}=={RELEASE}")


def schema() -> ModuleType:
    """The classes of the .tflite format."""
    need_release()
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def host_library() -> Path:
    """The runtime of this machine."""
    need_release()
    package = importlib.util.find_spec("ai_edge_litert")
    path = Path(package.origin).with_name(LIBRARY)
    if not path.is_file():
        raise EdgesvitError(f"{PACKAGE} {RELEASE} on this machine has no {LIBRARY}", _HINT)
    return path


def arm_library() -> Path:
    """The runtime for aarch64, from the package's wheel; fetched once.

    Raises EdgesvitError with pip's own words when the package index does not give it.
    """
    path = cache_dir("litert", RELEASE) / LIBRARY
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            wheel = _fetched(Path(work))
            with zipfile.ZipFile(wheel) as archive:
                partial = Path(archive.extract(f"ai_edge_litert/{LIBRARY}", work))
            partial.rename(path)
    return path


def _fetched(folder: Path) -> Path:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", "--platform", _ARM_WHEEL, "--python-version", "3.11",
            "--dest", str(folder), f"{PACKAGE}=={RELEASE}"]
    got = subprocess.run(argv, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if got.returncode or not wheels:
        words = got.stderr.strip().splitlines()
        raise EdgesvitError(f"no {PACKAGE} {RELEASE} for aarch64: "
                            f"{words[-1] if words else 'pip gives none'}",
                            "needs the package index, this once")
    return wheels[0]
