"""RDTech UM25C (and UM24C, UM34C), an inline USB meter over Bluetooth: one or two samples a second.

The user binds it to a serial port first: `sudo rfcomm bind 0 ADDRESS`.
"""

import time

import numpy as np

from edgesvit.errors import Unreachable
from edgesvit.meters.port import MeterPort
from edgesvit.meters.samples import EMPTY, About, Samples, from_volts

BAUD = 9600
ANSWER_BYTES = 130
ANSWER_S = 2.0
ASK = b"\xf0"
# Model number in the answer -> name, volts and amperes of a count.
MODELS = {0x0963: ("um24c", 0.01, 0.001), 0x09C9: ("um25c", 0.001, 0.0001),
          0x0D4C: ("um34c", 0.01, 0.001)}


class Um25c:
    """One meter at a port."""

    def __init__(self, where: str):
        self._port = MeterPort(where, "um25c", BAUD)
        try:
            self._port.drain()
            packet = self._ask()
        except Unreachable:
            self._port.close()
            raise
        model = MODELS.get(int.from_bytes(packet[:2], "big")) if packet else None
        if model is None:
            self._port.close()
            raise self._port.wrong(self._answer, "no UM24C, UM25C or UM34C answers there")
        name, self._volts, self._amperes = model
        self.about = About(
            kind=name, covers="the whole board, at its USB supply",
            error_percent=1.0,  # voltage 0.5 % and current 0.8 % of the reading
            emulated=self._port.emulated)

    def _ask(self) -> bytes | None:
        self._port.write(ASK)
        self._answer = self._port.exactly(ANSWER_BYTES, ANSWER_S)
        return self._answer if len(self._answer) == ANSWER_BYTES else None

    def begin(self) -> None:
        pass

    def read(self) -> Samples:
        asked_s = time.monotonic()
        packet = self._ask()
        middle_s = (asked_s + time.monotonic()) / 2  # it has no clock of its own
        if packet is None or int.from_bytes(packet[:2], "big") not in MODELS:
            return self._damaged()
        volts = int.from_bytes(packet[2:4], "big") * self._volts
        amperes = int.from_bytes(packet[4:6], "big") * self._amperes
        watts = int.from_bytes(packet[6:10], "big") / 1000
        # Nothing checks the answer but that its three numbers agree.
        if abs(volts * amperes - watts) > 0.002 + 0.02 * watts + self._amperes * volts:
            return self._damaged()
        return from_volts(np.array([middle_s]), np.array([volts]), np.array([amperes]))

    def _damaged(self) -> Samples:
        self._port.drain()
        return Samples(EMPTY.time_s, EMPTY.power_w, damaged=1)

    def end(self) -> None:
        pass

    def close(self) -> None:
        self._port.close()


def open_meter(kind: str, where: str) -> Um25c:
    """The meter at port `where`."""
    return Um25c(where)
