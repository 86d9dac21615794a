"""MLPerf Tiny's command set on the emulated board: a transcript over a pty, and `repeat`."""

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.boards.qemu_mcu import emulated_mcu, emulator
from edgesvit.errors import EdgesvitError
from edgesvit.lower.firmware import build_firmware
from edgesvit.measure.protocol import SerialSession
from edgesvit.program import interpret
from tests.fakes.serial_boards import behind_pty, needs, small_program, write_program
from tests.program.programs import random_image

pytestmark = pytest.mark.emulated
PROGRAM = small_program()
IMAGE = random_image(PROGRAM, 5)
CHUNK = 31  # bytes in one line of MLPerf Tiny's runner


@pytest.fixture(scope="module")
def elf(tmp_path_factory):
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    built = write_program(PROGRAM, tmp_path_factory.mktemp("program"))
    return build_firmware(targets.load("qemu-mps2-an386"), *built).elf


class Runner:
    """Sends a command, reads its lines up to `m-ready`."""

    def __init__(self, port):
        self.port = port
        port.timeout = 30

    def ask(self, command: str) -> list[str]:
        self.port.write(f"{command}%".encode())
        lines = []
        while not lines or lines[-1] != "m-ready":
            lines.append(self.port.readline().decode().removesuffix("\r\n"))
            assert lines[-1], f"silent after {lines}"
        return lines[:-1]

    def load(self, data: bytes) -> list[str]:
        said = self.ask(f"db load {len(data)}")
        for at in range(0, len(data), CHUNK):
            said += self.ask(f"db {data[at:at + CHUNK].hex()}")
        return said


def test_the_runner_s_transcript(elf):
    """Over a pty, as the public runner would: name, profile, db load, infer 20 2, results."""
    target = targets.load("qemu-mps2-an386")
    logits = interpret.run(PROGRAM, IMAGE)
    results = f"m-results-[{','.join(map(str, logits))}]"
    with emulator(target, elf) as (url, _):
        with behind_pty("--tcp", url.removeprefix("socket://")) as port:
            runner = Runner(port)
            port.timeout = 3
            port.readline()  # `#0 boot ...`; whoever comes late does not see it
            port.timeout = 30
            assert runner.ask("name") == ["m-name-dut-[edgesvit-qemu-mps2-an386]"]
            assert runner.ask("profile") == [
                "m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[edgesvit]"]
            assert runner.ask("timestamp") == ["m-lap-us-0"]
            assert runner.load(IMAGE.tobytes()) == ["m-[Expecting 192 bytes]", "m-load-done"]
            shown = runner.ask("db print")
            assert len(shown) == 24 and "".join(line[8:] for line in shown).replace(
                "-", "") == IMAGE.tobytes().hex()
            said = runner.ask("infer 20 2")
            assert said[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-20"]
            begin, end = (int(line.removeprefix("m-lap-us-")) for line in said[3:5])
            assert said[5:] == ["m-infer-done", results]
            # 22 equal runs: ten parts of eleven are in the timed window, as whole microseconds
            assert (end - begin) == pytest.approx(10 * begin, abs=20 + begin // 100)
            assert runner.ask("results") == [results]
            assert runner.ask("nonsense 1") == ["e-[Unknown command: nonsense]"]
            assert runner.ask("db load 7")[0].startswith("e-[db load")
            assert runner.ask("infer 0")[0].startswith("e-[infer")
            said = runner.ask("infer")  # one, after ten to warm up
            assert (said[0], said[2], said[6]) == ("m-warmup-start-10", "m-infer-start-1", results)
            # The rest of a line that is longer than the input does not count.
            runner.ask("db load 192")
            assert runner.ask(f"db {'00' * 120}") == []
            assert runner.ask(f"db {'00' * 120}") == ["m-load-done"]
            assert len(runner.ask("help")) == 7


def test_repeat_takes_the_time_of_as_many_runs(elf):
    """And both languages work side by side on one line."""
    with emulated_mcu(targets.load("qemu-mps2-an386"), elf) as port:
        session = SerialSession(port)
        session.hello()
        with pytest.raises(EdgesvitError, match="load the whole input before the first repeat"):
            session.repeat(2)
        once = session.infer(IMAGE)
        many = session.repeat(10)
        np.testing.assert_array_equal(many.logits, once.logits)
        np.testing.assert_array_equal(once.logits, interpret.run(PROGRAM, IMAGE))
        # Each turn but the first copies the input back: a few instructions a byte.
        assert 10 * once.ticks <= many.ticks < 10.1 * once.ticks + 9 * 1000
        port.write(b"name%")
        assert session.repeat(3).ticks < many.ticks
