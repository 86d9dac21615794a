"""The serial protocol: framing, and whole conversations with the board's own code on a pty."""

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgesvit.boards.serial import open_port
from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.measure.protocol import (
    DATA_BYTES,
    Reply,
    SerialSession,
    crc16,
    frame,
    parse,
)
from edgesvit.program import interpret
from tests.fakes.serial_boards import behind_pty, host_board, small_program, write_program
from tests.program.programs import random_image


def reply(text: str) -> bytes:
    return frame(1, text)[:-1]


def test_crc16_is_ccitt_false():
    assert crc16(b"123456789") == 0x29B1


def test_documentation_shows_every_command_and_true_checksums(board):
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    assert frame(7, "load 0 00ff80").decode() in text
    assert frame(8, "step 0").decode().strip() in text
    with behind_pty(*board[0]) as port:
        port.timeout = 2
        port.write(b"help\n")
        said = port.read_until(b"#0 ready").decode()
    assert len(commands := re.findall(r"#0 help (\w+)", said)) == 9
    for command in commands:
        assert f"| `{command}" in text


def test_parse_takes_back_what_frame_made():
    assert parse(reply("ticks 12 34")) == Reply(1, "ticks", "12 34")
    assert parse(reply("ready")) == Reply(1, "ready", "")


def test_any_changed_lost_or_cut_byte_is_noticed():
    line = reply("logits 0 -12 345 6789")
    for i in range(len(line)):
        assert parse(line[:i] + line[i + 1:]) is None
        assert parse(line[:i]) is None
        for bit in range(8):
            assert parse(line[:i] + bytes([line[i] ^ 1 << bit]) + line[i + 1:]) is None


@pytest.mark.parametrize("line", [b"", b"\xff\x00", b"#", b"~", b" ~0000", b"# ready ~0000"])
def test_noise_is_no_reply(line):
    assert parse(line) is None


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """argv of a board that is really there, and the program that it runs."""
    program = small_program()
    path, arena_bytes = write_program(program, tmp_path_factory.mktemp("program"))
    return ["--run", str(host_board()), str(path), str(arena_bytes)], program


def test_hello_names_the_board(board):
    argv, program = board
    with behind_pty(*argv) as port:
        identity = SerialSession(port).hello()
    assert (identity.board, identity.protocol) == ("host-board", 1)
    assert identity.input_bytes == np.prod(program.input.shape)
    assert (identity.time_steps, identity.classes) == (4, 10)


def test_infer_gives_the_interpreters_logits(board):
    argv, program = board
    with behind_pty(*argv) as port:
        session = SerialSession(port)
        for seed in range(5):
            image = random_image(program, seed)
            result = session.infer(image)
            assert result.logits.dtype == np.int32
            np.testing.assert_array_equal(result.logits, interpret.run(program, image))
        assert session.retries == 0


def test_check_memory_and_calibration(board):
    argv, program = board
    with behind_pty(*argv) as port:
        session = SerialSession(port)
        assert session.check()
        assert session.memory()["arena"] == int(argv[-1])
        assert session.ticks_per_instruction() == 2.0


def test_board_errors_are_errors_at_once(board):
    argv, program = board
    size = int(np.prod(program.input.shape))
    with behind_pty(*argv) as port:
        session = SerialSession(port)
        with pytest.raises(EdgesvitError, match="load the whole input"):
            session.infer(bytes(size - 1))
        with pytest.raises(EdgesvitError, match="past the end"):
            session.infer(bytes(size + 1))
        assert session.retries == 0


def test_a_second_infer_needs_a_second_load(board):
    argv, program = board
    with behind_pty(*argv) as port:
        session = SerialSession(port)
        session.infer(random_image(program, 0))
        with pytest.raises(EdgesvitError, match="load the whole input"):
            session.infer(b"")


# Requests: blank, hello, load, load, infer. Replies: boot, hello, ready, ready (of the first load),
# ready, running, logits, logits, ticks, ready.
PLACES = ["request:{}:1:3", "request:{}:2:0", "request:{}:2:12", "request:{}:2:-1",
          "request:{}:4:4", "request:{}:4:-1", "reply:{}:1:0", "reply:{}:3:5", "reply:{}:3:-1",
          "reply:{}:6:2", "reply:{}:7:-1", "reply:{}:8:9", "reply:{}:9:0"]
FAULTS = [place.format(kind) for place in PLACES for kind in ("drop", "flip", "cut")
          if kind != "cut" or "-1" not in place]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_costs_a_retry_not_the_result(board, fault):
    argv, program = board
    image = random_image(program, 1)
    with behind_pty(*argv, fault=fault) as port:
        session = SerialSession(port, reply_s=0.5)
        session.hello()
        np.testing.assert_array_equal(session.infer(image).logits, interpret.run(program, image))
        assert session.retries == (0 if ":1:" in fault else 1)  # a ping is no retry
        assert session.infer(image).ticks == 1000


@pytest.mark.parametrize("kind", ["drop", "flip", "cut"])
def test_a_damaged_running_line_does_not_end_the_run(board, kind):
    argv, program = board
    image = random_image(program, 1)
    with behind_pty(*argv, fault=f"reply:{kind}:5:8") as port:
        session = SerialSession(port, reply_s=0.5)
        session.hello()
        np.testing.assert_array_equal(session.infer(image).logits, interpret.run(program, image))


def test_silence_is_unreachable(board):
    argv, program = board
    with behind_pty(*argv, fault="request:silent:3:0") as port:
        session = SerialSession(port, reply_s=0.2)
        session.hello()
        with pytest.raises(Unreachable, match="no answer to `load`"):
            session.load(bytes(DATA_BYTES * 4))
        assert session.retries == 3


def test_a_closed_connection_is_unreachable(board):
    argv, _ = board
    with behind_pty("--run", "true") as port:
        with pytest.raises(Unreachable):
            SerialSession(port, reply_s=0.2).check()


@pytest.mark.parametrize("noise", [["yes"], ["cat", "/dev/zero"]])
def test_a_port_that_never_stops_talking_is_unreachable(noise, monkeypatch):
    monkeypatch.setattr("edgesvit.measure.protocol.BOOT_S", 1.0)
    begin = time.monotonic()
    with behind_pty("--run", *noise) as port:
        with pytest.raises(Unreachable, match="no answer to `check`"):
            SerialSession(port, reply_s=0.5).check()
        with pytest.raises(Unreachable, match="no answer to `hello`"):
            SerialSession(port).hello()
    assert time.monotonic() - begin < 40


def test_another_protocol_version_is_named(tmp_path):
    script = tmp_path / "board.py"
    script.write_text("""
import re, sys
from edgesvit.measure.protocol import frame
for line in sys.stdin:
    if match := re.match("#([0-9]+) hello", line):
        for text in ("hello protocol=2", "ready"):
            print(frame(int(match[1]), text).decode(), end="", flush=True)
""")
    with behind_pty("--run", sys.executable, str(script)) as port:
        with pytest.raises(EdgesvitError, match="speaks protocol 2, not 1"):
            SerialSession(port).hello()


def test_a_missing_port_is_unreachable():
    with pytest.raises(Unreachable, match="/dev/nothing-here"):
        open_port("/dev/nothing-here")
