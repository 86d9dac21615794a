"""Bare-metal firmware: a program, the runtime and the serial protocol linked for one board."""

import hashlib
import os
import re
import string
import subprocess
from pathlib import Path

import msgspec

from edgesvit import __version__
from edgesvit.errors import DoesNotFit, EdgesvitError, UsageError
from edgesvit.lower import compile
from edgesvit.resources import cache_dir, shipped
from edgesvit.targets import Region, Target

STACK_BYTES = 8192  # 512 of them are the guard that overflow runs into
COMPILER = "arm-none-eabi-gcc"
FLAGS = (*compile.STRICT, "-O2", "-g0", "-mthumb", "-ffunction-sections", "-fdata-sections",
          "-nostartfiles", "-Wl,--gc-sections")
# Which use of a region each section of link.ld.in is.
_SECTION_USE = {".text": "code", ".weights": "weights", ".stack": "stack", ".data": "io",
                ".bss": "io", ".arena": "arena"}
_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes?")


class Firmware(msgspec.Struct, frozen=True):
    """A linked image and what the linker says about it, all in bytes."""

    elf: Path
    sections: dict[str, int]  # use (code, weights, arena, stack, io) -> bytes
    regions: dict[str, int]  # region name -> bytes from its origin to its last used byte


def build_firmware(target: Target, program_path: Path, arena_bytes: int,
                   stack_bytes: int = STACK_BYTES) -> Firmware:
    """Compile and link the firmware of `target` around the .esv file at `program_path`.

    Raises DoesNotFit with the region, the bytes needed and the budget when the linker runs out of
    room, UsageError when the target is no microcontroller, EdgesvitError when a tool fails.
    """
    if target.kind != "mcu" or target.uart is None:
        raise UsageError(f"{target.name} takes no firmware: it is no microcontroller with a UART",
                         "edgesvit targets")
    weights = staged(program_path.read_bytes(), "program.esv")
    script = staged(linker_script(target, arena_bytes, stack_bytes).encode(), "link.ld")
    sources, headers = _sources(target)
    flags = (*FLAGS, *target.compiler_flags, *_includes(), *_defines(target))
    last = (f'-DPROGRAM_FILE="{weights}"', "-T", str(script))
    try:
        elf = compile.build(COMPILER, sources, flags, f"{target.name}.elf",
                            (*headers, weights, script), last)
    except EdgesvitError as error:
        sizes = {"weights": weights.stat().st_size, "arena": arena_bytes, "stack": stack_bytes}
        raise _does_not_fit(target, error.message, sizes) or error from None
    return read_back(target, elf)


def staged(content: bytes, name: str) -> Path:
    """`content` under a path that depends on it alone, so that equal input is built once."""
    path = cache_dir("firmware", hashlib.sha256(content).hexdigest()[:24]) / name
    if not path.exists():
        partial = path.with_name(f"{name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.rename(path)
    return path


def linker_script(target: Target, arena_bytes: int, stack_bytes: int) -> str:
    template = string.Template((shipped("firmware") / "cortex_m" / "link.ld.in").read_text())
    uses = ("code", "weights", "arena", "stack", "io")
    return template.substitute(
        {use: _ld_name(target.region_for(use)) for use in uses},
        target=target.name, arena_bytes=_aligned(arena_bytes, 16),
        stack_bytes=_aligned(stack_bytes, 32),
        memory="\n".join(_memory_line(target, region) for region in target.memory))


def _memory_line(target: Target, region: Region) -> str:
    if region.origin is None:
        raise UsageError(f"{target.name}.toml: memory region {region.name} has no origin",
                         "microcontroller regions need their address")
    return (f"    {_ld_name(region)} (rwx) : "
            f"ORIGIN = {region.origin:#010x}, LENGTH = {region.bytes}")


def _ld_name(region: Region) -> str:
    """The region's name as the linker takes it: an identifier."""
    return re.sub(r"\W", "_", region.name).upper()


def _aligned(count: int, step: int) -> int:
    return -(-count // step) * step


def _folders() -> list[Path]:
    return [shipped("firmware") / name for name in ("cortex_m", "runtime", "kernels")]


def _sources(target: Target) -> tuple[list[Path], list[Path]]:
    """C and assembly files to compile, and the headers they may include."""
    board = f"board_{target.name.replace('-', '_')}.c"
    sources = [path for folder in _folders() for path in sorted(folder.glob("*.[cS]"))
               if path.name == board or not path.name.startswith("board_")]
    return sources, [path for folder in _folders() for path in sorted(folder.glob("*.h"))]


def _includes() -> list[str]:
    return [f"-I{folder}" for folder in _folders()]


def _defines(target: Target) -> list[str]:
    uart = target.uart
    return [f'-DBOARD_NAME="{target.name}"', f'-DBOARD_FIRMWARE="{__version__}"',
            f"-DUART_{uart.driver.upper()}", f"-DUART_BASE={uart.base:#x}u",
            f"-DUART_BAUD={uart.baud}", f"-DCLOCK_HZ={target.clock_hz}"]


def _does_not_fit(target: Target, message: str, sizes: dict[str, int]) -> DoesNotFit | None:
    """The linker's overflow report in our words; None when the build failed for another reason."""
    overflows = {name: int(count) for name, count in _OVERFLOW.findall(message)}
    parts = []
    for region in target.memory:
        if over := overflows.get(_ld_name(region)):
            named = ", ".join(f"{use} {sizes[use]}" for use in region.holds if use in sizes)
            parts.append(f"needs {region.bytes + over} bytes of {region.name}, has {region.bytes}"
                         + (f" ({named})" if named else ""))
    if not parts:
        return None
    return DoesNotFit(f"does not fit {target.name}: {'; '.join(parts)}",
                      f"edgesvit compress --target {target.name}")


def read_back(target: Target, elf: Path) -> Firmware:
    """Section sizes and region use from `size -A` of the linked file."""
    tool = compile.need(COMPILER.replace("gcc", "size"))
    listing = subprocess.run([tool, "-A", str(elf)], capture_output=True, text=True, check=True)
    sections = dict.fromkeys(("code", "weights", "arena", "stack", "io"), 0)
    ends = {region.name: region.origin for region in target.memory}
    load_image = 0
    for line in listing.stdout.splitlines():
        name, *numbers = line.split() or [""]
        if name not in _SECTION_USE:
            continue
        size, address = map(int, numbers)
        use = _SECTION_USE[name]
        sections[use] += size
        load_image += size if name == ".data" else 0
        region = target.region_for(use)
        ends[region.name] = max(ends[region.name], address + size)
    sections["code"] += load_image  # initial values of .data wait behind the code
    ends[target.region_for("code").name] += load_image
    return Firmware(elf, sections, {region.name: ends[region.name] - region.origin
                                    for region in target.memory})
