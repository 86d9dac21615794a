"""Targets: one TOML file a board, read into frozen records."""

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from edgesvit.errors import UsageError
from edgesvit.resources import shipped

Use = Literal["code", "weights", "arena", "stack", "io"]


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One memory region of a board; `holds` says what a deployment may put there."""

    name: str
    bytes: int
    holds: tuple[Use, ...]
    origin: int | None = None  # load address, microcontrollers only


class Emulator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How QEMU stands in for the board."""

    program: str  # qemu-system-arm | qemu-system-aarch64 | qemu-aarch64
    cpu: str = ""
    machine: str = ""
    icount_shift: int | None = None  # 1 instruction = 2**shift ns of virtual time


class Uart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The serial port the firmware speaks on."""

    driver: Literal["cmsdk", "stm32_v1", "stm32_v2"]
    base: int
    baud: int = 115200


class Flash(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each flash tool calls the chip."""

    openocd: str = ""  # its configuration: target/stm32h7x.cfg
    interface: str = "interface/stlink.cfg"  # of the probe, for openocd
    pyocd: str = ""  # --target
    probe_rs: str = ""  # --chip
    esptool: str = ""  # --chip
    uf2_board: str = ""  # Board-ID in the INFO_UF2.TXT of its disk: RPI-RP2
    uf2_family: int = 0  # of the chip, as UF2 files name it: 0xE48BFF56 is the RP2040


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A board. See docs/targets.md for the meaning of each field."""

    name: str
    title: str
    url: str
    kind: Literal["linux", "mcu", "host"]
    cpu: str
    transport: Literal["local", "qemu-user", "ssh", "serial"]
    memory: tuple[Region, ...]
    isa: tuple[str, ...] = ()
    clock_hz: int | None = None
    cores: int = 1
    lanes: int = 8  # channels a vector kernel works on at once: pruning keeps multiples of it
    runtimes: tuple[str, ...] = ("native",)
    compiler_flags: tuple[str, ...] = ()
    emulator: Emulator | None = None
    uart: Uart | None = None
    flash_tools: tuple[str, ...] = ()
    flash: Flash | None = None
    power_sources: tuple[str, ...] = ()
    default_profile: str = "fit"

    def region_for(self, use: Use) -> Region:
        """The first region that holds `use`; the loader guarantees that there is one."""
        return next(region for region in self.memory if use in region.holds)


def load(name: str) -> Target:
    """The target called `name`, or the target in the TOML file at path `name`.

    Raises UsageError with the nearest known name when there is none.
    """
    path = Path(name) if name.endswith(".toml") else shipped("targets") / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"unknown target {name!r}; known: {', '.join(names())}",
                         "edgesvit targets")
    try:
        target = msgspec.convert(tomllib.loads(path.read_text()), Target)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name}: {error}", "see docs/targets.md for the fields") from None
    missing = {"code", "weights", "arena", "stack", "io"}.difference(
        *(region.holds for region in target.memory))
    if missing:
        raise UsageError(f"{path.name}: no memory region holds {', '.join(sorted(missing))}",
                         "add them to a [[memory]] table's `holds`")
    return target


def names() -> list[str]:
    """The names of all shipped targets, sorted."""
    return sorted(path.stem for path in shipped("targets").glob("*.toml"))
