"""A meter's serial port: reads with deadlines, and one clear error for each way it can fail."""

import re
import time
from pathlib import Path

from edgesvit.boards.serial import open_port
from edgesvit.errors import Unreachable

SILENCE_S = 3.0  # a meter that samples and says nothing for this long is gone
READ_S = 0.05


class MeterPort:
    """An open port at `where`; every method raises Unreachable when it breaks."""

    def __init__(self, where: str, kind: str, baud: int = 115200):
        self.where = f"{kind} at {where}"
        self.emulated = is_pty(where)
        self._port = open_port(where, baud)
        self._port.timeout = READ_S
        self._buffer = b""
        self._heard_s = time.monotonic()

    def write(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._port.write(data)
        except OSError as error:
            raise self._broken(error) from None
        self._heard_s = time.monotonic()  # its silence counts from what it was asked

    def some(self) -> bytes:
        """What has come, perhaps nothing; Unreachable after SILENCE_S of nothing."""
        try:
            data = self._buffer + self._port.read(max(1, self._port.in_waiting))
        except (OSError, TypeError) as error:  # TypeError: pyserial's, closed while it reads
            raise self._broken(error) from None
        self._buffer = b""
        if data:
            self._heard_s = time.monotonic()
        elif time.monotonic() - self._heard_s > SILENCE_S:
            raise Unreachable(f"{self.where}: silent for {SILENCE_S:g} s",
                              "is it still plugged in and powered?")
        return data

    def lines(self) -> list[bytes]:
        """The complete lines that have come, without their ends, blank ones left out."""
        *complete, rest = re.split(rb"[\r\n]", self.some())
        self._buffer = rest[-4096:]  # a line has an end; noise without one is forgotten
        return [line for line in complete if line]

    def until(self, ending: bytes, deadline_s: float) -> bytes:
        """Everything up to and with `ending`; what there is at the deadline if it does not come."""
        deadline, data = time.monotonic() + deadline_s, b""
        while ending not in data and time.monotonic() < deadline:
            data += self.some()
        head, found, self._buffer = data.partition(ending)
        return head + found

    def exactly(self, count: int, deadline_s: float) -> bytes:
        """`count` bytes, or fewer at the deadline."""
        deadline, data = time.monotonic() + deadline_s, b""
        while len(data) < count and time.monotonic() < deadline:
            data += self.some()
        self._buffer = data[count:]
        return data[:count]

    def drain(self) -> None:
        """Forget what was said before: until it is quiet, half a second at most."""
        end, quiet = time.monotonic() + 0.5, False
        self._buffer = b""
        while not quiet and time.monotonic() < end:
            quiet = not self.some()

    def close(self) -> None:
        """Give the port back; never raises."""
        try:
            self._port.close()
        except OSError:
            pass

    def wrong(self, answer: bytes, wanted: str) -> Unreachable:
        """The error for a device that is something else."""
        heard = f"it says {answer[:40]!r}" if answer else "it says nothing"
        return Unreachable(f"{self.where}: {wanted}: {heard}",
                           "see what is plugged in: edgesvit doctor")

    def _broken(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self.where}: the connection broke: {error}",
                           "is the cable still in? what came before it is kept")


def is_pty(where: str) -> bool:
    """Whether a program, not a device, is at the other end: nothing there can measure."""
    return str(Path(where).resolve()).startswith("/dev/pts/")
