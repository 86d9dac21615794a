"""What goes wrong between us and an emulated board ends in bounded time, and leaves nothing."""

import time

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.boards import qemu_mcu
from edgesvit.boards.qemu_mcu import emulated_mcu, emulator
from edgesvit.boards.serial import open_port
from edgesvit.errors import Unreachable
from edgesvit.lower.firmware import build_firmware
from edgesvit.measure.protocol import SerialSession
from edgesvit.program import interpret
from tests.fakes.serial_boards import behind_pty, needs, small_program, write_program
from tests.program.programs import random_image

pytestmark = pytest.mark.emulated
PROGRAM = small_program()
TARGET = targets.load("qemu-mps2-an386")


@pytest.fixture(scope="module")
def elf(tmp_path_factory):
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    return build_firmware(TARGET, *write_program(PROGRAM, tmp_path_factory.mktemp("p"))).elf


@pytest.mark.parametrize("kind", ["drop", "flip", "cut"])
@pytest.mark.parametrize("direction,place", [("request", "3:20"), ("request", "4:3"),
                                             ("reply", "6:9"), ("reply", "7:4"),
                                             ("reply", "9:1")])
def test_one_fault_costs_a_retry_not_the_result(elf, direction, place, kind):
    """Request 3 is a load, 4 the infer; reply 6 holds logits, 9 ends the answer."""
    fault = f"{direction}:{kind}:{place}"
    with emulator(TARGET, elf) as (url, _):
        with behind_pty("--tcp", url.removeprefix("socket://"), fault=fault) as port:
            session = SerialSession(port, reply_s=2.0)
            session.hello()
            image = random_image(PROGRAM, 5)
            result = session.infer(image)
            clean = session.infer(image)
    np.testing.assert_array_equal(result.logits, interpret.run(PROGRAM, image))
    assert result.ticks == clean.ticks
    assert session.retries > 0


@pytest.mark.parametrize("fault", ["request:silent:2:0", "reply:silent:5:0", "reply:silent:7:4"])
def test_silence_is_unreachable_in_bounded_time(elf, fault):
    with emulator(TARGET, elf) as (url, process):
        with behind_pty("--tcp", url.removeprefix("socket://"), fault=fault) as port:
            session = SerialSession(port, reply_s=1.0, run_s=5.0)
            session.hello()
            begin = time.monotonic()
            with pytest.raises(Unreachable, match="no answer to"):
                session.infer(random_image(PROGRAM, 5))
    assert time.monotonic() - begin < 30
    assert process.returncode is not None


class KillsAtRun:
    """A port that kills the emulator as soon as the board says that it runs."""

    def __init__(self, port, process):
        self.__dict__.update(port=port, process=process, seen=b"")

    def read(self, count):
        data = self.port.read(count)
        self.__dict__["seen"] += data
        if b" running " in self.seen and self.process.poll() is None:
            self.process.kill()
        return data

    def __getattr__(self, name):
        return getattr(self.port, name)

    def __setattr__(self, name, value):
        setattr(self.port, name, value)


@pytest.mark.parametrize("through_pty", [False, True])
def test_an_emulator_killed_in_the_run_is_unreachable_at_once(elf, through_pty):
    with emulator(TARGET, elf) as (url, process):
        address = ("--tcp", url.removeprefix("socket://"))
        with behind_pty(*address) if through_pty else open_port(url) as port:
            session = SerialSession(KillsAtRun(port, process), run_s=60)
            session.hello()
            begin = time.monotonic()
            with pytest.raises(Unreachable, match="connection broke"):
                session._ask("loop 100000000", lambda replies: None, slow=True)
    assert time.monotonic() - begin < 20
    assert process.returncode is not None


def test_a_failure_of_ours_leaves_no_emulator(elf):
    with pytest.raises(ZeroDivisionError):
        with emulator(TARGET, elf) as (_, process):
            _ = 1 // 0
    assert process.returncode is not None


def test_the_death_of_the_emulator_is_explained(elf, monkeypatch):
    started = []
    start = qemu_mcu.start
    monkeypatch.setattr(qemu_mcu, "start", lambda *a, **k: started.append(start(*a, **k))
                        or started[0])
    with pytest.raises(Unreachable, match="has ended: SIGKILL"):
        with emulated_mcu(TARGET, elf) as port:
            session = SerialSession(port)
            session.hello()
            started[0].kill()
            session.hello()
