"""The firmware on four emulated Cortex-M boards: who they are, what they compute, what it takes."""

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.boards.qemu_mcu import emulated_mcu
from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.lower.firmware import build_firmware
from edgesvit.measure.protocol import SerialSession
from edgesvit.program import interpret
from tests.fakes.serial_boards import needs, small_program, write_program
from tests.program.programs import random_image

pytestmark = pytest.mark.emulated
BOARDS = ["qemu-mps2-an385", "qemu-mps2-an386", "qemu-mps2-an500", "qemu-mps3-an547",
          "qemu-netduinoplus2"]
PROGRAM = small_program()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The program's file and arena."""
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    return write_program(PROGRAM, tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize("name", BOARDS)
def test_board_computes_what_the_interpreter_defines(built, name):
    path, arena_bytes = built
    target = targets.load(name)
    firmware = build_firmware(target, path, arena_bytes)
    with emulated_mcu(target, firmware.elf) as port:
        session = SerialSession(port)
        identity = session.hello()
        assert (identity.board, identity.time_steps, identity.classes) == (name, 4, 10)
        assert identity.model == path.read_bytes()[12:16][::-1].hex()
        assert identity.arena_bytes == arena_bytes
        assert session.check()
        for seed in range(4):
            image = random_image(PROGRAM, seed)
            np.testing.assert_array_equal(session.infer(image).logits,
                                          interpret.run(PROGRAM, image))
        memory = session.memory()
    for use in ("code", "weights", "arena"):
        assert memory[use] == firmware.sections[use]
    assert memory["data"] == firmware.sections["io"]
    assert memory["arena_used"] <= arena_bytes
    narrow = sum(op.weight.size for op in PROGRAM.ops if getattr(op, "weight_bits", 8) < 8)
    assert memory["unpacked"] > narrow  # and a table of where they lie
    assert 256 < memory["stack_used"] < memory["stack"]
    assert memory["stack"] - memory["stack_used"] < identity.stack_free_bytes


@pytest.mark.parametrize("name", BOARDS)
def test_instruction_counts_are_exact(built, name):
    """The same in every run; the loop of known length gives the ticks of an instruction."""
    target = targets.load(name)
    elf = build_firmware(target, *built).elf
    images = [random_image(PROGRAM, seed) for seed in (1, 2, 1)]
    runs = []
    for _ in range(2):
        with emulated_mcu(target, elf) as port:
            session = SerialSession(port)
            assert session.hello().timer == "systick"
            counts = [session.infer(image).ticks for image in images]
            ratio = session.ticks_per_instruction()
            runs.append((counts, ratio))
    assert runs[0] == runs[1]
    assert counts[0] == counts[2] != counts[1]
    expected = target.clock_hz * 2**target.emulator.icount_shift / 1e9
    assert ratio == pytest.approx(expected, abs=2e-6) and ratio >= 1


def test_a_run_longer_than_the_timer_is_counted(built):
    """SysTick has 24 bits: 20 million turns wrap it several times."""
    target = targets.load("qemu-mps2-an386")
    with emulated_mcu(target, build_firmware(target, *built).elf) as port:
        session = SerialSession(port)
        ticks = session._ask("loop 20000000", lambda replies: int(replies[-1].rest), slow=True)
    assert 64_000_000 < ticks < 64_000_000 * 1.00001


def test_a_damaged_program_is_refused_by_the_board(built, tmp_path):
    path, arena_bytes = built
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.esv"
    damaged.write_bytes(data)
    target = targets.load("qemu-mps2-an386")
    with emulated_mcu(target, build_firmware(target, damaged, arena_bytes).elf) as port:
        with pytest.raises(EdgesvitError, match="answers: program"):
            SerialSession(port).hello()


def test_a_small_arena_is_refused_by_the_board(built):
    path, arena_bytes = built
    target = targets.load("qemu-mps2-an386")
    with emulated_mcu(target, build_firmware(target, path, arena_bytes - 16).elf) as port:
        with pytest.raises(EdgesvitError, match="larger arena"):
            SerialSession(port).hello()


@pytest.mark.parametrize("name", BOARDS)
def test_a_stack_overflow_is_reported_and_survived(built, name):
    target = targets.load(name)
    with emulated_mcu(target, build_firmware(target, *built).elf) as port:
        session = SerialSession(port)
        session.load(bytes(8))
        shallow = session.memory()["stack_used"]
        session.check()
        deep = session.memory()["stack_used"]
    small = build_firmware(target, *built, stack_bytes=512 + (shallow + deep) // 2)
    with emulated_mcu(target, small.elf) as port:
        session = SerialSession(port, run_s=10)
        with pytest.raises(EdgesvitError, match="fault hard"):
            session.check()
        assert session.hello().board == name  # it has started again


def test_an_emulator_that_cannot_start_is_unreachable(tmp_path):
    needs("qemu-system-arm")
    target = targets.load("qemu-mps2-an386")
    with pytest.raises(Unreachable, match="emulator has ended: exit status 1"):
        with emulated_mcu(target, tmp_path / "missing.elf") as port:
            SerialSession(port).hello()
