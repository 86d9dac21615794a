"""Lower a program to our own C runtime: one executable for a target, and the host library."""

import functools
from pathlib import Path

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.lower.artifact import IMAGES, THREADS, Artifact
from edgesvit.lower.compile import STRICT, build, loaded_bytes
from edgesvit.lower.firmware import build_firmware
from edgesvit.program.file import arena_bytes, crc32
from edgesvit.resources import shipped
from edgesvit.targets import Target


def lower(program: Path, target: Target, mode: str = "", images: np.ndarray | None = None
          ) -> Artifact:
    """The firmware with the .esv file linked in, or the Linux runner that will map it.

    Raises DoesNotFit when the linker runs out of a region, UsageError for any `mode`; `images` are
    not looked at.
    """
    if mode:
        raise UsageError(f"the native runtime has no {mode}: it runs spike programs alone",
                         "--runtime litert or --runtime xnnpack-int8")
    if target.kind == "mcu":
        firmware = build_firmware(target, program, arena_bytes(program))
        return Artifact("native", firmware.elf, firmware.sections, program_crc32=crc32(program))
    runner = linux_runner(target)
    linked = loaded_bytes((runner,)) | {"arena": arena_bytes(program),
                                        "weights": program.stat().st_size}
    return Artifact("native", runner, linked, files=(program,),
                    arguments=("--threads", THREADS, program.name, IMAGES))


def linux_runner(target: Target, extra_flags: tuple[str, ...] = ("-O3", "-static")) -> Path:
    """The board runner for a Linux target; being static, it runs on any kernel and libc."""
    sources, headers = linux_sources()
    folder = shipped("firmware") / "linux"
    compiler = "aarch64-linux-gnu-gcc" if "aarch64" in target.isa else "cc"
    flags = [*STRICT, "-D_GNU_SOURCE", *extra_flags, "-pthread", *target.compiler_flags,
             *includes()]
    own = [folder / name for name in ("runner.c", "probe.c", "windows.c", "layers.c")]
    return build(compiler, [*own, *sources], flags, "edgesvit-runner", headers)


@functools.cache  # searches open a program for every setting
def host_library(extra_flags: tuple[str, ...] = ("-O3", "-march=native")) -> Path:
    """The runtime as a shared library for this machine, built on a process's first use."""
    sources, headers = linux_sources()
    flags = [*STRICT, "-D_GNU_SOURCE", *extra_flags, "-shared", "-fPIC", "-pthread", *includes()]
    return build("cc", sources, flags, "libedgesvit.so", headers)


def linux_sources() -> tuple[list[Path], list[Path]]:
    """All that Linux shares: the runtime and its threads; C files and the headers they include."""
    sources, headers = _runtime_sources()
    linux = shipped("firmware") / "linux"
    return [*sources, linux / "crew.c", linux / "choose.c"], [*headers, *sorted(linux.glob("*.h"))]


def _runtime_sources() -> tuple[list[Path], list[Path]]:
    folders = [shipped("firmware") / name for name in ("kernels", "runtime")]
    sources = [path for folder in folders for path in sorted(folder.glob("*.c"))]
    return sources, [path for folder in folders for path in sorted(folder.glob("*.h"))]


def includes() -> list[str]:
    """Where those headers are, as flags."""
    return [f"-I{shipped('firmware') / name}" for name in ("kernels", "runtime", "linux")]
