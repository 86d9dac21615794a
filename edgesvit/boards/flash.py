"""Writing firmware to a microcontroller, with whatever tool its user has."""

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgesvit.boards import uf2
from edgesvit.boards.process import start, stop
from edgesvit.errors import Unreachable, UsageError
from edgesvit.lower.compile import need
from edgesvit.targets import Flash, Target

DEADLINE_S = 180.0
Note = Callable[[str], None]

# tool -> commands, each a list of words; {elf}, {bin} and {uf2} are the firmware, {origin} is where
# the flash begins, {drive} the disk as which a board shows itself, the rest the target's [flash]
# table. All verify what they wrote, pyocd in newer releases; the board's own self-check follows.
TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "openocd": (("openocd", "-f", "{interface}", "-f", "{openocd}", "-c",
                 "program {{{elf}}} verify reset exit"),),
    "st-flash": (("st-flash", "--reset", "write", "{bin}", "{origin}"),),
    "STM32_Programmer_CLI": (("STM32_Programmer_CLI", "-c", "port=SWD", "-w", "{elf}", "-v",
                              "-rst"),),
    "pyocd": (("pyocd", "load", "--target", "{pyocd}", "{elf}"),),  # it resets the board
    "probe-rs": (("probe-rs", "download", "--chip", "{probe_rs}", "--verify", "{elf}"),
                 ("probe-rs", "reset", "--chip", "{probe_rs}")),
    "esptool": (("esptool", "--chip", "{esptool}", "write-flash", "{origin}", "{bin}"),),
    "picotool": (("picotool", "load", "-v", "-x", "{elf}", "-t", "elf"),),
    "uf2": (("cp", "{uf2}", "{drive}"),),  # the board takes it block by block, then starts
}
INSTALL = {
    "openocd": "apt-get install openocd", "st-flash": "apt-get install stlink-tools",
    "pyocd": "pip install pyocd", "esptool": "pip install esptool",
    "picotool": "apt-get install picotool", "probe-rs": "see https://probe.rs",
    "uf2": "hold BOOTSEL while you plug the board in: it shows itself as a disk",
    "STM32_Programmer_CLI": "see https://www.st.com/en/development-tools/stm32cubeprog.html"}


def tool_for(target: Target) -> str | None:
    """The first of the target's tools that is installed, None when none is."""
    def is_here(tool: str) -> bool:
        return bool(uf2.drive(_table(target).uf2_board) if tool == "uf2" else shutil.which(tool))

    return next((tool for tool in target.flash_tools if is_here(tool)), None)


def commands(target: Target, elf: Path, tool: str | None = None) -> list[list[str]]:
    """The command lines that write `elf`, with `tool` or the one that is installed.

    Where none is installed, those of the target's first choice: what somebody would type.
    """
    if not target.flash_tools or target.emulator:
        raise UsageError(f"{target.name} is not flashed: its TOML file lists no flash_tools",
                         "edgesvit targets")
    chosen = tool or tool_for(target) or target.flash_tools[0]
    table = _table(target)
    names = {name: getattr(table, name) for name in Flash.__struct_fields__}
    names |= {"elf": str(elf), "bin": str(elf.with_suffix(".bin")),
              "uf2": str(elf.with_suffix(".uf2")),
              "drive": str(uf2.drive(table.uf2_board) or "DRIVE"),
              "origin": f"{target.region_for('code').origin:#010x}"}
    if missing := [name for word in sum(TOOLS[chosen], ()) for name, value in names.items()
                   if f"{{{name}}}" in word and not value]:
        raise UsageError(f"{target.name}: {chosen} needs `{missing[0]}` in its [flash] table",
                         "docs/targets.md tells the fields")
    return [[word.format(**names) for word in command] for command in TOOLS[chosen]]


def flash(target: Target, elf: Path, note: Note) -> str:
    """Write `elf` to the board; the tool that did it.

    Raises Unreachable with the tool's own last words when it fails or none is installed.
    """
    tool = tool_for(target)
    if tool is None:
        first = target.flash_tools[0] if target.flash_tools else ""
        raise Unreachable(
            f"{target.name}: none of {', '.join(target.flash_tools) or 'its tools'} is installed",
            INSTALL.get(first, "write the firmware by hand") + f"; the firmware is {elf}")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, elf.name)
        shutil.copy(elf, image)
        lines = commands(target, image, tool)
        binary, blocks = image.with_suffix(".bin"), image.with_suffix(".uf2")
        if any(str(path) in words for words in lines for path in (binary, blocks)):
            subprocess.run([need("arm-none-eabi-objcopy"), "-O", "binary", str(image),
                            str(binary)], check=True)
        if tool == "uf2":
            blocks.write_bytes(uf2.blocks(binary.read_bytes(), target.region_for("code").origin,
                                          _table(target).uf2_family))
        for words in lines:
            note(shlex.join(words))
            _call(words, target, tool)
    return tool


def _table(target: Target) -> Flash:
    return target.flash or Flash()


def _call(words: list[str], target: Target, tool: str) -> None:
    process = start(words, text=True, errors="replace", stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{target.name}: {tool} is not done after {DEADLINE_S:g} s",
                          f"try it by hand: {shlex.join(words)}") from None
    finally:
        stop(process)
    if process.returncode:
        said = [line.strip() for line in (errors + "\n" + output).splitlines()
                if line.strip()]
        worst = [line for line in said if "error" in line.lower()] or said[-1:]
        raise Unreachable(f"{target.name}: {tool} fails: "
                          f"{worst[0] if worst else f'exit status {process.returncode}'}",
                          "is the board plugged in and its probe free? edgesvit doctor")
