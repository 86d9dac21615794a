"""Lower a program to our own C runtime: one executable for a target, and the host library."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgesvit.lower.compile import STRICT, build, need
from edgesvit.lower.firmware import build_firmware
from edgesvit.program.file import arena_bytes
from edgesvit.resources import shipped
from edgesvit.targets import Target


@dataclass(frozen=True)
class Artifact:
    """What goes to a board; `linked_bytes` by use (code, weights, arena, stack, io)."""

    executable: Path
    linked_bytes: dict[str, int]


def lower(program: Path, target: Target) -> Artifact:
    """The firmware with the .esv file linked in, or the Linux runner that will map it.

    Raises DoesNotFit when the linker runs out of a region.
    """
    if target.kind == "mcu":
        firmware = build_firmware(target, program, arena_bytes(program))
        return Artifact(firmware.elf, firmware.sections)
    runner = linux_runner(target)
    text, data, bss = _sizes(runner)
    return Artifact(runner, {"code": text, "io": data + bss, "arena": arena_bytes(program),
                             "weights": program.stat().st_size})


def linux_runner(target: Target) -> Path:
    """The static board runner for a Linux target; runs on any kernel and libc."""
    sources, headers = _linux_sources()
    runner = shipped("firmware") / "linux" / "runner.c"
    compiler = "aarch64-linux-gnu-gcc" if "aarch64" in target.isa else "cc"
    flags = [*STRICT, "-D_GNU_SOURCE", "-O3", "-static", "-pthread", *target.compiler_flags,
             *_includes()]
    return build(compiler, [runner, *sources], flags, "edgesvit-runner", headers)


def host_library(extra_flags: tuple[str, ...] = ("-O3", "-march=native")) -> Path:
    """The runtime as a shared library for this machine, built on first use."""
    sources, headers = _linux_sources()
    flags = [*STRICT, "-D_GNU_SOURCE", *extra_flags, "-shared", "-fPIC", "-pthread", *_includes()]
    return build("cc", sources, flags, "libedgesvit.so", headers)


def _linux_sources() -> tuple[list[Path], list[Path]]:
    """All that Linux shares: the runtime and its threads; C files and the headers they include."""
    sources, headers = _runtime_sources()
    linux = shipped("firmware") / "linux"
    return [*sources, linux / "crew.c", linux / "choose.c"], [*headers, linux / "crew.h"]


def _runtime_sources() -> tuple[list[Path], list[Path]]:
    folders = [shipped("firmware") / name for name in ("kernels", "runtime")]
    sources = [path for folder in folders for path in sorted(folder.glob("*.c"))]
    return sources, [path for folder in folders for path in sorted(folder.glob("*.h"))]


def _includes() -> list[str]:
    return [f"-I{shipped('firmware') / name}" for name in ("kernels", "runtime", "linux")]


def _sizes(executable: Path) -> list[int]:
    """text, data and bss in bytes."""
    listing = subprocess.run([need("size"), str(executable)], capture_output=True, text=True,
                             check=True).stdout
    return [int(word) for word in listing.splitlines()[1].split()[:3]]
