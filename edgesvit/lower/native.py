"""Lower a program to our own C runtime: the host library and the Linux board runner.

Microcontroller firmware is in `firmware.py`; both compile the same kernels and runtime.
"""

from pathlib import Path

from edgesvit.lower.compile import STRICT, build
from edgesvit.resources import shipped
from edgesvit.targets import Target


def runtime_sources() -> tuple[list[Path], list[Path]]:
    """The C files of kernels and runtime, and the headers they depend on."""
    root = shipped("firmware")
    folders = (root / "kernels", root / "runtime")
    sources = [path for folder in folders for path in sorted(folder.glob("*.c"))]
    headers = [path for folder in folders for path in sorted(folder.glob("*.h"))]
    return sources, headers


def include_flags() -> list[str]:
    """Where the compiler finds the runtime's headers."""
    root = shipped("firmware")
    return [f"-I{root / 'kernels'}", f"-I{root / 'runtime'}"]


def host_library(extra_flags: tuple[str, ...] = ("-O3", "-march=native")) -> Path:
    """The runtime as a shared library for this machine, built on first use."""
    sources, headers = runtime_sources()
    flags = [*STRICT, *extra_flags, "-shared", "-fPIC", *include_flags()]
    return build("cc", sources, flags, "libedgesvit.so", headers)


def linux_runner(target: Target) -> Path:
    """The static board runner for a Linux target; runs on any kernel and libc."""
    sources, headers = runtime_sources()
    runner = shipped("firmware") / "linux" / "runner.c"
    compiler = "aarch64-linux-gnu-gcc" if "aarch64" in target.isa else "cc"
    flags = [*STRICT, "-D_GNU_SOURCE", "-O3", "-static", *target.compiler_flags, *include_flags()]
    return build(compiler, [runner, *sources], flags, "edgesvit-runner", headers)
