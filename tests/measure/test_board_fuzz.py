"""The board's protocol code under sanitizers: no input makes it crash, hang or misbehave."""

import random
import subprocess

import pytest

from edgesvit.measure.protocol import frame, parse
from tests.fakes.serial_boards import host_board, small_program, write_program

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMMANDS = ("hello", "load 0 00ff", "load 191 7f", "load 4294967295 00", "load 0 " + "a5" * 128,
            "load 190 010203", "load 1 f", "load", "infer", "repeat 2", "repeat 0", "step 0",
            "step 3", "step",
            "name%", "db load 192%db 00%", "infer 2 1%", "check", "memory", "loop 5", "loop 0",
            "loop 99999999999", "help", "nothing", "")


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    path, arena_bytes = write_program(small_program(), tmp_path_factory.mktemp("program"))
    return [str(host_board(*SANITIZERS)), str(path), str(arena_bytes)]


def answers(board: list[str], data: bytes) -> list[bytes]:
    """What the board says to `data` followed by a proper hello."""
    run = subprocess.run(board, input=data + b"\n" + frame(77, "hello"), capture_output=True,
                         timeout=120)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.split(b"\r\n")


def mutated(dice: random.Random) -> bytes:
    """A proper line with up to three bytes changed, lost or doubled; or noise."""
    if dice.random() < 0.2:
        return dice.randbytes(dice.choice((1, 7, 60, 700)))
    line = bytearray(frame(dice.choice((0, 1, 9, 2**32 - 1, 2**32)), dice.choice(COMMANDS)))
    if dice.random() < 0.3:  # as typed by a person
        line = bytearray(dice.choice(COMMANDS).encode() + b"\r")
    for _ in range(dice.randrange(4)):
        i = dice.randrange(len(line))
        line[i:i + 1] = dice.choice((b"", dice.randbytes(1), line[i:i + 1] * 2, b"\n", b"\x7f"))
        if not line:
            return b""
    return bytes(line)


@pytest.mark.parametrize("seed", range(4))
def test_noise_never_stops_the_board(board, seed):
    dice = random.Random(seed)
    lines = answers(board, b"".join(mutated(dice) for _ in range(3000)))
    assert lines[-1] == b""
    assert parse(lines[-2]) == (77, "ready", "")
    # What ends in a `%` is answered in MLPerf Tiny's words.
    assert all(parse(line) or line[:2] in (b"m-", b"e-") for line in lines[:-1])


def test_a_line_without_end_is_refused_when_it_ends(board):
    lines = answers(board, b"x" * 100_000)
    assert parse(lines[1]).rest.startswith("toolong")


@pytest.mark.parametrize("line", [b"#1 infer\n", b"1 hello ~95a5\n", b"#0 hello ~dc15\n",
                                  b"hello ~95a5\n", b"#1 hello ~95a6\n", b"#1 ~20f2\n"])
def test_a_numbered_line_needs_its_checksum(board, line):
    assert parse(answers(board, line)[1]).rest.startswith("checksum")


def test_a_person_can_type_and_correct(board):
    lines = [parse(line) for line in answers(board, b"helkx\x08\x7flo\rmemory\r\n")[1:-1]]
    assert [reply.word for reply in lines[:4]] == ["hello", "ready", "memory", "ready"]


def test_the_same_number_again_gives_the_same_logits(board):
    load = b"".join(frame(1, f"load {i} {'5a' * 64}") for i in (0, 64, 128))
    lines = answers(board, load + frame(2, "infer") * 2 + frame(3, "infer"))
    said = [reply for line in lines[1:-1] if (reply := parse(line)) and reply.number in (2, 3)]
    first = [reply for reply in said if reply.number == 2 and reply.word != "running"]
    assert first[:len(first) // 2] == first[len(first) // 2:]
    assert said[-1].rest.startswith("input")


def test_steps_come_in_order_and_are_repeated_not_run_again(board):
    load = b"".join(frame(1, f"load {i} {'5a' * 64}") for i in (0, 64, 128))
    lines = answers(board, load + frame(2, "step 1") + frame(3, "step 0") * 2 + frame(4, "step 0")
                    + frame(5, "step 1") + frame(6, "step 1") + load + frame(7, "step 2"))
    said = {number: [reply for line in lines[1:-1] if (reply := parse(line))
                     and reply.number == number and reply.word != "running"]
            for number in range(2, 8)}
    assert all(said[number][0].rest.startswith("input") for number in (2, 4, 6, 7))
    assert [reply.word for reply in said[3]] == ["step", "ticks", "ready"] * 2
    assert said[3][0].rest == "1" and said[5][0].rest == "2"
