"""Flashing: the exact command lines, with tools that only write down how they were called."""

import struct
import subprocess
import sys

import msgspec
import pytest

from edgesvit import targets
from edgesvit.boards import uf2
from edgesvit.boards.flash import INSTALL, TOOLS, commands, flash, tool_for
from edgesvit.errors import Unreachable, UsageError
from edgesvit.targets import Flash
from tests.fakes.boards import script
from tests.fakes.serial_boards import needs

TARGET = targets.load("nucleo-h743zi")
EXPECTED = {
    "openocd": ["openocd -f interface/stlink.cfg -f target/stm32h7x.cfg -c "
                "program {ELF} verify reset exit"],
    "st-flash": ["st-flash --reset write BIN 0x08000000"],
    "STM32_Programmer_CLI": ["STM32_Programmer_CLI -c port=SWD -w ELF -v -rst"],
    "pyocd": ["pyocd load --target stm32h743xx ELF"],
    "probe-rs": ["probe-rs download --chip STM32H743ZITx --verify ELF",
                 "probe-rs reset --chip STM32H743ZITx"]}


@pytest.fixture
def elf(tmp_path):
    needs("cc")
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return 0; }\n")
    path = tmp_path / "fw.elf"
    subprocess.run(["cc", str(source), "-o", str(path)], check=True)
    return path


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH of its own; call with names to install fakes that log their words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    log = tmp_path / "log"

    def install(*names, body="exit 0"):
        for name in names:
            script(folder / name, f'printf "%s\\n" "{name} $*" >>{log}\n{body}')
        return log
    return install


@pytest.mark.parametrize("tool", EXPECTED)
def test_the_installed_tool_is_called(tool, elf, tools):
    if tool == "st-flash":
        needs("arm-none-eabi-objcopy")
    log = tools(tool, *(["arm-none-eabi-objcopy"] if tool == "st-flash" else []))
    told = []
    assert flash(TARGET, elf, told.append) == tool
    said = [line for line in log.read_text().splitlines() if not line.startswith("arm-none")]
    assert len(said) == len(told)
    for line, expected in zip(said, EXPECTED[tool], strict=True):
        words = [word if "fw." not in word else
                 ("{%s}" if word.startswith("{") else "%s") % word.strip("{}").rpartition(".")[2]
                 .upper() for word in line.split()]
        assert " ".join(words) == expected


def test_the_target_s_preference_decides(elf, tools):
    tools("probe-rs", "pyocd")
    assert flash(TARGET, elf, lambda text: None) == "pyocd"
    tools("openocd")
    assert flash(TARGET, elf, lambda text: None) == "openocd"
    assert [name for name in TARGET.flash_tools if name not in TOOLS or name not in INSTALL] == []


def test_a_failing_tool_is_heard(elf, tools):
    tools("openocd", body="echo Info: trying; echo 'Error: open failed' >&2; exit 1")
    with pytest.raises(Unreachable, match="openocd fails: Error: open failed") as caught:
        flash(TARGET, elf, lambda text: None)
    assert caught.value.exit_code == 4


def test_without_a_tool(elf, tools):
    with pytest.raises(Unreachable, match="none of openocd, .* is installed") as caught:
        flash(TARGET, elf, lambda text: None)
    assert "apt-get install openocd" in caught.value.hint and str(elf) in caught.value.hint
    assert commands(TARGET, elf)[0][0] == "openocd"


def test_an_emulator_is_not_flashed(elf):
    with pytest.raises(UsageError, match="not flashed"):
        commands(targets.load("qemu-mps2-an386"), elf)


def test_deploy_dry_run_prints_them(tmp_path, tools):
    needs("arm-none-eabi-gcc")
    tools("probe-rs")
    done = subprocess.run(
        [sys.executable, "-m", "edgesvit", "deploy", "--target", "nucleo-h743zi", "--dry-run",
         "--images", "1", "--run", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("probe-rs download --chip STM32H743ZITx --verify /")
    assert first.endswith("/nucleo-h743zi.elf") and second == "probe-rs reset --chip STM32H743ZITx"


@pytest.fixture
def pico(tmp_path, monkeypatch):
    """A target that is flashed by a copy, and its disk (a folder) with a blank in its name."""
    disk = tmp_path / "RPI RP2"
    mounts = tmp_path / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\n/dev/sdz1 {str(disk).replace(' ', chr(92) + '040')}"
                      " vfat rw 0 0\n")
    monkeypatch.setattr(uf2, "MOUNTS", mounts)
    flash = Flash(uf2_board="RPI-RP2", uf2_family=0xE48BFF56)
    return msgspec.structs.replace(TARGET, flash_tools=("uf2", "picotool"), flash=flash), disk


def test_uf2_is_copied_to_the_board_s_disk(pico, tmp_path):
    needs("arm-none-eabi-gcc", "arm-none-eabi-objcopy")
    target, disk = pico
    assert tool_for(target) is None and "BOOTSEL" in INSTALL["uf2"]
    disk.mkdir()
    (disk / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\n"
                                       "Board-ID: RPI-RP2\n")
    source, elf = tmp_path / "main.S", tmp_path / "fw.elf"
    source.write_text(".text\n.globl _start\n_start: .skip 700, 0x5a\n")
    subprocess.run(["arm-none-eabi-gcc", "-nostdlib", "-Wl,-Ttext=0x08000000", str(source), "-o",
                    str(elf)], check=True)
    assert flash(target, elf, lambda text: None) == "uf2"
    written = (disk / "fw.uf2").read_bytes()
    assert len(written) == 3 * 512
    words = [struct.unpack("<8I", written[i:i + 32]) for i in range(0, len(written), 512)]
    assert [(w[0], w[1], w[3], w[5], w[6], w[7]) for w in words] == [
        (0x0A324655, 0x9E5D5157, 0x08000000 + 256 * i, i, 3, 0xE48BFF56) for i in range(3)]
    assert written[508:512] == struct.pack("<I", 0x0AB16F30)
    data = b"".join(written[i + 32:i + 288] for i in range(0, len(written), 512))
    assert data[:700] == bytes([0x5A]) * 700 and set(data[700:]) == {0}


def test_another_board_s_disk_is_not_written_to(pico):
    target, disk = pico
    disk.mkdir()
    (disk / "INFO_UF2.TXT").write_text("UF2 Bootloader\nBoard-ID: SAMD21G18A-Feather-v0\n")
    assert tool_for(target) is None
