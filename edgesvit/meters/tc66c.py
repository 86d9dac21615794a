"""RDTech TC66C, an inline USB-C meter: asked for each sample, some ten a second.

The answer is 192 bytes, scrambled with a key that all of them share.
"""

import time

import numpy as np

from edgesvit.errors import Unreachable
from edgesvit.meters.aes import decrypt
from edgesvit.meters.port import MeterPort
from edgesvit.meters.samples import EMPTY, About, Samples, from_volts

ANSWER_BYTES = 192
ANSWER_S = 1.0
KEY = bytes(byte & 0xFF for byte in (
    88, 33, -6, 86, 1, -78, -16, 38, -121, -1, 18, 4, 98, 42, 79, -80, -122, -12, 2, 96, -127,
    111, -102, 11, -89, -15, 6, 97, -102, -72, 114, -120))


class Tc66c:
    """One meter at a port."""

    def __init__(self, where: str):
        self._port = MeterPort(where, "tc66c")
        try:
            self._port.drain()
            packet = self._ask()
        except Unreachable:
            self._port.close()
            raise
        if packet is None:
            self._port.close()
            raise self._port.wrong(self._answer, "no TC66C answers there")
        self.about = About(
            kind="tc66c", serial=str(int.from_bytes(packet[12:16], "little")),
            settings={"version": packet[8:12].decode("ascii", "replace")},
            covers="the whole board, at its USB-C supply",
            error_percent=0.1,  # voltage 0.05 % and current 0.05 % of the reading, and 2 counts
            emulated=self._port.emulated)

    def _ask(self) -> bytes | None:
        """The packet in clear, None when what came is none."""
        self._port.write(b"getva")
        self._answer = self._port.exactly(ANSWER_BYTES, ANSWER_S)
        if len(self._answer) < ANSWER_BYTES:
            return None
        packet = decrypt(self._answer, KEY)
        return packet if _is_sound(packet) else None

    def begin(self) -> None:
        pass

    def read(self) -> Samples:
        asked_s = time.monotonic()
        packet = self._ask()
        middle_s = (asked_s + time.monotonic()) / 2  # it has no clock of its own
        if packet is None:
            self._port.drain()
            return Samples(EMPTY.time_s, EMPTY.power_w, damaged=1)
        volts, amperes, _ = _values(packet)
        return from_volts(np.array([middle_s]), np.array([volts]), np.array([amperes]))

    def end(self) -> None:
        pass

    def close(self) -> None:
        self._port.close()


def _values(packet: bytes) -> tuple[float, float, float]:
    """Volts, amperes, watts."""
    volts, amperes, watts = (int.from_bytes(packet[at:at + 4], "little") for at in (48, 52, 56))
    return volts / 1e4, amperes / 1e5, watts / 1e4


def _is_sound(packet: bytes) -> bool:
    """Three blocks by their names, and a power that is the product of voltage and current."""
    volts, amperes, watts = _values(packet)
    named = [packet[at:at + 4] for at in (0, 64, 128)] == [b"pac1", b"pac2", b"pac3"]
    return named and abs(volts * amperes - watts) < 0.001 + 0.01 * watts


def open_meter(kind: str, where: str) -> Tc66c:
    """The meter at port `where`."""
    return Tc66c(where)
