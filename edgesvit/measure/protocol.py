"""Host side of the serial protocol (docs/protocol.md): numbered, checksummed lines with deadlines.

Every command may be sent again: the board answers a repeated number with the same result. So a
lost, cut or flipped byte costs a retry, never a wrong result, and silence ends in Unreachable.
"""

import binascii
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from edgesvit.errors import EdgesvitError, Unreachable

DATA_BYTES = 128  # of the input in one `load` line
TRIES = 4  # the first one and three retries
BOOT_S = 10.0
_HELLO_S = 0.5
_SETTLE_S = 0.1  # silence after which a damaged answer is taken to be over
_POLL_S = 0.05
_LONGEST_BYTES = 65536  # without an end of line: no board of ours
VERSION = 1
_REPLY = re.compile(rb"#(\d{1,10}) ([!-~]+) ?([ -~]*)")
_T = TypeVar("_T")


class Reply(NamedTuple):
    """One intact line from the board."""

    number: int
    word: str
    rest: str


class Identity(msgspec.Struct, frozen=True):
    """What a board says about itself."""

    protocol: int
    firmware: str
    board: str
    model: str  # CRC-32 of the .esv it runs, 8 hex digits
    time_steps: int
    input_bytes: int
    classes: int
    arena_bytes: int
    timer: str  # dwt | systick
    stack_free_bytes: int


class Inference(NamedTuple):
    """One run on the board."""

    logits: np.ndarray  # int32 [classes]
    ticks: int  # of the board's timer


class _Step(NamedTuple):
    """What one step answers; the logits come with the last."""

    next: int
    ticks: int
    logits: np.ndarray | None


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF."""
    return binascii.crc_hqx(data, 0xFFFF)


def frame(number: int, command: str) -> bytes:
    """The request line of `command`, numbered and checksummed."""
    body = f"#{number} {command}".encode()
    return body + f" ~{crc16(body):04x}\n".encode()


def parse(line: bytes) -> Reply | None:
    """The reply in `line` (without its end of line), None when it is damaged."""
    body, mark, crc = line[:-6], line[-6:-4], line[-4:]
    match = _REPLY.fullmatch(body)
    if mark != b" ~" or match is None or crc != f"{crc16(body):04x}".encode():
        return None
    number, word, rest = match.groups()
    return Reply(int(number), word.decode(), rest.decode())


class _Damaged(Exception):
    """An answer that is incomplete."""


class _Silent(Unreachable):
    """No complete answer in all tries."""


class SerialSession:
    """A conversation with one board over `port`, an open pyserial object.

    `reply_s` bounds the wait for any line, `run_s` the wait while the board says that it works.
    Raises Unreachable when the board stays silent or the port breaks, EdgesvitError when the
    board answers with an error.
    """

    def __init__(self, port, reply_s: float = 3.0, run_s: float = 120.0):
        self.port = port
        self.reply_s = reply_s
        self.run_s = run_s
        self.retries = 0
        self._where = getattr(port, "name", None) or "serial board"
        self._buffer = b""
        self._classes = 0  # how many scores a result has; 0: the board was not asked yet
        # A random start: a late answer to an earlier session is not taken for one of ours.
        self._number = int.from_bytes(os.urandom(2)) + 1
        port.timeout = _POLL_S

    def hello(self) -> Identity:
        """Who the board is; asks for 10 s, since it may still be booting."""
        self._drain()
        retries, end = self.retries, time.monotonic() + BOOT_S
        while True:
            try:
                identity = self._ask("hello", _identity, reply_s=_HELLO_S)
                self._classes = identity.classes
                return identity
            except _Silent as error:
                if time.monotonic() >= end:
                    raise Unreachable(f"{self._where}: no answer to `hello` for {BOOT_S:g} s",
                                      error.hint) from None
            finally:
                self.retries = retries  # a board that is still booting has lost nothing

    def load(self, data: bytes) -> None:
        """Put an input image [H, W, C] uint8, as bytes, where the next `infer` reads it."""
        for offset in range(0, len(data), DATA_BYTES):
            chunk = data[offset:offset + DATA_BYTES]
            self._ask(f"load {offset} {chunk.hex()}", lambda replies: None)

    def infer(self, image: bytes | np.ndarray) -> Inference:
        """Load `image` [H, W, C] uint8 and run it once."""
        self.load(np.ascontiguousarray(image, np.uint8).tobytes()
                  if isinstance(image, np.ndarray) else image)
        return self._ask("infer", self._result(), slow=True)

    def repeat(self, turns: int, started: Callable[[], None] = lambda: None) -> Inference:
        """Run the last loaded input `turns` times in a row; the ticks of all of them.

        `started` is called when the board says that it begins. Raises EdgesvitError on a board
        without room to keep the input.
        """
        return self._ask(f"repeat {turns}", self._result(), slow=True, started=started)

    def steps(self, image: np.ndarray, operators: int) -> tuple[list[int], list[int], np.ndarray]:
        """Load `image` [H, W, C] uint8 and run a program of so many operators one by one.

        The operators at which the steps begin, the ticks of each step, and the logits.
        """
        self.load(np.ascontiguousarray(image, np.uint8).tobytes())
        classes = self._classes or self.hello().classes
        firsts, ticks, step = [], [], _Step(0, 0, None)
        while step.next < operators:
            firsts.append(step.next)
            step = self._ask(f"step {step.next}",
                             partial(_step, first=step.next, operators=operators,
                                     classes=classes), slow=True)
            ticks.append(step.ticks)
        return firsts, ticks, step.logits

    def check(self) -> bool:
        """Run the program's self-check vector: True when the board got the very same logits.

        Raises EdgesvitError when the program carries no vector.
        """
        result = self._ask("check", lambda replies: _one(replies, "check"), slow=True)
        if result == "none":
            raise EdgesvitError(f"{self._where}: the program carries no self-check vector",
                                "lower the model again")
        return result == "pass"

    def memory(self) -> dict[str, int]:
        """Bytes linked (code, weights, data, arena, stack), used (arena_used, stack_used), and of
        memory behind the arena that hold narrow weights as bytes (unpacked)."""
        fields = self._ask("memory", lambda replies: _pairs(_one(replies, "memory")))
        return {name: int(value) for name, value in fields.items()}

    def ticks_per_instruction(self) -> float:
        """Timer ticks of one instruction, from two loops of known length.

        A constant only where every instruction takes the same time: in an emulator that counts.
        """
        short, long = (self._ask(f"loop {turns}", lambda replies: int(_one(replies, "ticks")),
                                 slow=True) for turns in (100_000, 1_100_000))
        return (long - short) / 2e6

    def _result(self) -> Callable[[list[Reply]], Inference]:
        """What reads a result and knows how long it must be: a lost line of scores is noticed."""
        classes = self._classes or self.hello().classes
        return lambda replies: _inference(replies, classes)

    def _ask(self, command: str, read: Callable[[list[Reply]], _T], slow: bool = False,
             reply_s: float | None = None, started: Callable[[], None] = lambda: None) -> _T:
        """Send `command` until `read` accepts what came back.

        Intact lines of all tries count together: they answer the same number.
        """
        self._number += 1
        request = frame(self._number, command)
        replies: list[Reply] = []
        for attempt in range(TRIES):
            self.retries += attempt > 0
            # The empty line ends whatever part of a line the board may still hold.
            self._write((b"\n" if attempt else b"") + request)
            if self._collect(replies, reply_s or self.reply_s, slow, started):
                try:
                    return read(replies)
                except (_Damaged, ValueError, KeyError):
                    continue
        verb = command.split()[0]
        raise _Silent(f"{self._where}: no answer to `{verb}` after {TRIES} tries",
                      "is it powered, flashed with this firmware, and on this port?")

    def _collect(self, replies: list[Reply], reply_s: float, slow: bool,
                 started: Callable[[], None]) -> bool:
        """Add the lines that answer the current number; True when `ready` ended them."""
        deadline = time.monotonic() + reply_s
        while (line := self._line(deadline)) is not None:
            reply = parse(line)
            if reply is None and slow and not replies and self._is_ours(line):
                # Most likely a damaged `running`: the board is at work, asking again is no use.
                deadline = time.monotonic() + self.run_s
            elif reply is None or reply[:2] == (0, "error"):
                self._check_fault(reply)
                deadline = min(deadline, time.monotonic() + _SETTLE_S)
            elif reply.number == self._number:
                self._check_error(reply)
                if reply.word == "ready":
                    return True
                replies.append(reply)
                if reply.word == "running":
                    started()
                wait_s = self.run_s if reply.word == "running" else reply_s
                deadline = time.monotonic() + wait_s
        return False

    def _is_ours(self, line: bytes) -> bool:
        return line.startswith(f"#{self._number} ".encode())

    def _check_fault(self, reply: Reply | None) -> None:
        if reply is not None and reply.rest.startswith("fault"):
            self._check_error(reply)

    def _check_error(self, reply: Reply) -> None:
        if reply.word == "error":
            raise EdgesvitError(f"{self._where}: the board answers: {reply.rest}",
                                "docs/protocol.md lists the errors")

    def _line(self, deadline: float) -> bytes | None:
        """The next line that is not blank; at the deadline what there is of it, or None."""
        while True:
            line, end, rest = self._buffer.partition(b"\n")
            if end:
                self._buffer = rest
                if line.strip():
                    return line.rstrip(b"\r")
            elif time.monotonic() >= deadline or len(line) > _LONGEST_BYTES:
                self._buffer = b""
                return line or None
            else:
                self._buffer += self._read()

    def _drain(self) -> None:
        """Forget what was said before we came: until the line is quiet, one second at most."""
        end = time.monotonic() + 1.0
        self._write(b"\n")
        while self._read() and time.monotonic() < end:
            pass
        self._buffer = b""

    def _read(self) -> bytes:
        try:
            return self.port.read(max(1, self.port.in_waiting))
        except OSError as error:
            raise Unreachable(f"{self._where}: the connection broke: {error}") from None

    def _write(self, data: bytes) -> None:
        try:
            self.port.write(data)
        except OSError as error:
            raise Unreachable(f"{self._where}: the connection broke: {error}") from None


def _one(replies: list[Reply], word: str) -> str:
    """What follows `word` in the answer."""
    for reply in replies:
        if reply.word == word:
            return reply.rest
    raise _Damaged(word)


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split())


def _identity(replies: list[Reply]) -> Identity:
    fields = _pairs(_one(replies, "hello"))
    if int(fields["protocol"]) != VERSION:
        raise EdgesvitError(f"the board speaks protocol {fields['protocol']}, not {VERSION}",
                            "flash the firmware of this release")
    return Identity(int(fields["protocol"]), fields["firmware"], fields["board"], fields["model"],
                    int(fields["T"]), int(fields["input"]), int(fields["classes"]),
                    int(fields["arena"]), fields["timer"], int(fields["stack_free"]))


def _inference(replies: list[Reply], classes: int) -> Inference:
    scores: dict[int, int] = {}
    for reply in replies:
        if reply.word == "logits":
            first, *values = map(int, reply.rest.split())
            scores.update(enumerate(values, first))
    if sorted(scores) != list(range(classes)):
        raise _Damaged("logits")
    logits = np.array([scores[i] for i in range(classes)], np.int32)
    return Inference(logits, int(_one(replies, "ticks")))


def _step(replies: list[Reply], first: int, operators: int, classes: int) -> _Step:
    following, ticks = int(_one(replies, "step")), int(_one(replies, "ticks"))
    if not first < following <= operators:
        raise _Damaged("step")  # or another program: it would never end
    return _Step(following, ticks,
                 _inference(replies, classes).logits if following >= operators else None)
