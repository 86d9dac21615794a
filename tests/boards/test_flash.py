"""Flashing: the exact command lines, with tools that only write down how they were called."""

import subprocess
import sys

import pytest

from edgesvit import targets
from edgesvit.boards.flash import INSTALL, TOOLS, commands, flash
from edgesvit.errors import Unreachable, UsageError
from tests.fakes.boards import script
from tests.fakes.serial_boards import needs

TARGET = targets.load("nucleo-h743zi")
EXPECTED = {
    "openocd": ["openocd -f interface/stlink.cfg -f target/stm32h7x.cfg -c "
                "program {ELF} verify reset exit"],
    "st-flash": ["st-flash --reset write BIN 0x08000000"],
    "STM32_Programmer_CLI": ["STM32_Programmer_CLI -c port=SWD -w ELF -v -rst"],
    "pyocd": ["pyocd flash --target stm32h743xx ELF", "pyocd reset --target stm32h743xx"],
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
