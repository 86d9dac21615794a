"""The operator library and the board runner, compiled against ExecuTorch's wheel alone."""

from pathlib import Path

from edgesvit.lower.compile import build, need
from edgesvit.lower.executorch.wheel import flags, libraries
from edgesvit.lower.native import includes, linux_sources
from edgesvit.resources import shipped
from edgesvit.targets import Target

LIBRARY = "libedgesvit_executorch.so"
RUNTIME = "libexecutorch.so"
_COMMON = ("-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-O3", "-pthread")
# Libraries lie beside who needs them. Named before the files that use them, so kept regardless.
_LINK = ("-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed", "-lexecutorch", "-lstdc++")


def operator_library(sdk: Path, target: Target) -> Path:
    """All `edgesvit::*` operators for the target's processor, fastest kernels chosen as it runs."""
    sources, headers = linux_sources()
    own = _folder() / "operators.cpp"
    extra = ["-shared", "-fPIC"]
    return _compile([own, *sources], headers, extra, LIBRARY, sdk, target)


def board_runner(sdk: Path, target: Target) -> Path:
    """The runner; at fixed addresses, so that an emulator's plug-in finds its marks."""
    _, headers = linux_sources()
    linux = shipped("firmware") / "linux"
    sources = [_folder() / "runner.cpp", linux / "probe.c", linux / "windows.c"]
    extra = ["-no-pie", "-fno-pie", "-ldl"]
    return _compile(sources, headers, extra, "edgesvit-executorch", sdk, target)


def runtime_library(sdk: Path) -> Path:
    """ExecuTorch itself: no operators, no backend."""
    return libraries(sdk) / RUNTIME


def _folder() -> Path:
    return shipped("firmware") / "executorch"


def _compile(sources: list[Path], headers: list[Path], extra: list[str], name: str, sdk: Path,
             target: Target) -> Path:
    # One command line for both languages: gcc looks at a file's name, and takes the newer standard
    # of each. It calls a C++ compiler that is a package of its own.
    cross = "aarch64-linux-gnu-" if "aarch64" in target.isa else ""
    need(f"{cross}g++")
    own = [*includes(), f"-I{_folder()}", *flags(sdk), f"-L{libraries(sdk)}"]
    options = [*_COMMON, *target.compiler_flags, *own, *_LINK, *extra]
    depends = [*headers, *sorted(_folder().glob("*.h")), runtime_library(sdk)]
    return build(f"{cross}gcc" if cross else "cc", sources, options, name, depends)
