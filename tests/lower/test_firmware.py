"""Firmware for every microcontroller target: it links, it is accounted for, or it is refused."""

import pytest

from edgesvit import targets
from edgesvit.errors import DoesNotFit, EdgesvitError, UsageError
from edgesvit.lower.firmware import STACK_BYTES, build_firmware
from tests.fakes.serial_boards import needs, small_program, write_program

MCUS = [name for name in targets.names() if targets.load(name).kind == "mcu"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    needs("arm-none-eabi-gcc", "arm-none-eabi-size")
    return write_program(small_program(), tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize("name", MCUS)
def test_sections_and_regions_add_up(program, name):
    path, arena_bytes = program
    target = targets.load(name)
    firmware = build_firmware(target, path, arena_bytes)
    assert firmware.elf.is_file()
    assert firmware.sections["weights"] == path.stat().st_size
    assert firmware.sections["arena"] == arena_bytes
    assert firmware.sections["stack"] == STACK_BYTES
    assert 4096 < firmware.sections["code"] < 65536
    for region in target.memory:
        held = sum(firmware.sections[use] for use in region.holds
                   if target.region_for(use) is region)
        assert held <= firmware.regions[region.name] <= held + 64  # the gaps of alignment
        assert firmware.regions[region.name] <= region.bytes


def test_the_same_input_is_built_once(program):
    path, arena_bytes = program
    target = targets.load("qemu-mps2-an386")
    first = build_firmware(target, path, arena_bytes)
    built = first.elf.stat().st_mtime_ns
    assert build_firmware(target, path, arena_bytes) == first
    assert first.elf.stat().st_mtime_ns == built


@pytest.mark.parametrize("name", MCUS)
def test_a_large_arena_is_refused_with_its_region(program, name):
    path, arena_bytes = program
    target = targets.load(name)
    region = target.region_for("arena")
    with pytest.raises(DoesNotFit, match=f"needs .* of {region.name}, has {region.bytes}") as error:
        build_firmware(target, path, region.bytes + 4096)
    assert str(region.bytes + 4096) in error.value.message


def test_large_weights_are_refused_with_the_exact_need(program, tmp_path):
    target = targets.load("qemu-netduinoplus2")
    flash = target.region_for("weights")
    small, large = tmp_path / "small.esv", tmp_path / "large.esv"
    small.write_bytes(bytes(64))
    large.write_bytes(bytes(flash.bytes))
    code = build_firmware(target, small, 64).regions["flash"] - 64
    with pytest.raises(DoesNotFit, match=f"needs {flash.bytes + code} bytes of flash"):
        build_firmware(target, large, 64)


def test_several_full_regions_are_all_named(program):
    path, _ = program
    with pytest.raises(DoesNotFit, match="of dtcm.*of axi-sram"):
        build_firmware(targets.load("nucleo-h743zi"), path, 1 << 20, stack_bytes=1 << 20)


def test_a_linux_board_takes_no_firmware(program):
    path, arena_bytes = program
    region = targets.Region("ram", 1, ("code", "weights", "arena", "stack", "io"))
    target = targets.Target("pi", "", "", "linux", "", "ssh", (region,))
    with pytest.raises(UsageError, match="pi takes no firmware"):
        build_firmware(target, path, arena_bytes)


def test_a_region_without_address_is_named(program):
    path, arena_bytes = program
    target = targets.load("qemu-mps2-an386")
    region = targets.Region("ram", 1 << 20, ("code", "weights", "arena", "stack", "io"))
    with pytest.raises(UsageError, match="memory region ram has no origin"):
        build_firmware(targets.msgspec.structs.replace(target, memory=(region,)), path,
                       arena_bytes)


def test_a_missing_compiler_is_named(program, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EdgesvitError, match="needs arm-none-eabi-gcc"):
        build_firmware(targets.load("qemu-mps2-an386"), *program)
