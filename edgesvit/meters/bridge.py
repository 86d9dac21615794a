"""INA219, INA226, INA228 and INA3221 behind our bridge firmware (firmware/power_bridge).

The lines are defined in docs/meters.md. Each carries a sequence number and a checksum, so a lost
line is counted and a damaged one dropped; the bridge reads its trigger input with each sample.
"""

import re
import time

import numpy as np

from edgesvit.errors import Unreachable
from edgesvit.meters.port import MeterPort
from edgesvit.meters.samples import About, Samples

BAUD = 500000  # a whole divider of the 16 MHz of a NUCLEO-F446RE
ANSWER_S = 0.5
_HEADER = re.compile(rb"#edgesvit-bridge 1 ((?:[a-z0-9_]+=\S+ ?)+)\*([0-9a-f]{2})")
_LINE = re.compile(rb"(@?[0-9,;-]+)\*([0-9a-f]{2})")
_WRAP = 1 << 32  # of both the sequence number and the microseconds
# Data sheet, total gain error of shunt and bus measurement, %: SBOS448, SBOS547, SBOSA20, SBOS576.
ERROR_PERCENT = {"ina219": 1.0, "ina226": 0.2, "ina228": 0.1, "ina3221": 1.1}


def checksum(text: bytes) -> int:
    """CRC-8, polynomial 0x07, start 0: of everything before the `*`."""
    crc = 0
    for byte in text:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ (0x107 if crc & 0x80 else 0)
    return crc


class Bridge:
    """One bridge; raises Unreachable unless it answers and carries a chip of `kind`."""

    def __init__(self, kind: str, where: str):
        self._port = MeterPort(where, kind, BAUD)
        self._next: int | None = None
        self._turns = self._last_us = 0
        try:
            header = self._header()
        except Unreachable:
            self._port.close()
            raise
        self._channels = int(header["channels"])
        if header["chip"] != kind:
            self._port.close()
            raise Unreachable(f"{self._port.where}: the bridge carries an {header['chip']}",
                              f"--meter {header['chip']}:{where}")
        self.about = About(
            kind=kind, serial=header["serial"], covers="what flows through its shunt",
            settings={key: int(header[key]) for key in
                      ("shunt_uohm", "current_lsb_na", "period_us", "channels")},
            error_percent=ERROR_PERCENT[kind],
            emulated=self._port.emulated or header["emulated"] == "1")

    def _header(self) -> dict[str, str]:
        self._port.drain()
        answer = b""
        for _ in range(5):  # a line that was damaged once is asked for again
            self._port.write(b"\nstop\n?\n")
            deadline = time.monotonic() + ANSWER_S
            while time.monotonic() < deadline:
                for line in self._port.lines():
                    answer = line
                    found = _HEADER.fullmatch(line)
                    if found and checksum(line[:-3]) == int(found[2], 16):
                        return dict(part.split("=", 1) for part in found[1].decode().split())
        raise self._port.wrong(answer, "no power bridge answers there")

    def begin(self) -> None:
        self._next = None
        self._port.write(b"start\n")

    def read(self) -> Samples:
        rows, energies, edges, lost, damaged = [], [], [], 0, 0
        for line in self._port.lines():
            found = _LINE.fullmatch(line)
            if not found or checksum(found[1]) != int(found[2], 16):
                damaged += not line.startswith(b"#")
                continue
            if found[1].startswith(b"@"):
                edge_us, level = map(int, found[1][1:].split(b","))
                edges.append((self._near(edge_us) * 1e-6, level))
                continue
            values, _, energy_nj = found[1].partition(b";")
            sequence, time_us, trigger, *pairs = map(int, values.split(b","))
            lost += 0 if self._next is None else (sequence - self._next) % _WRAP
            self._next = sequence + 1
            rows.append((self._unwrapped(time_us), trigger, *pairs))
            energies.append(int(energy_nj) if energy_nj else None)
        return self._samples(rows, energies, edges, lost, damaged)

    def end(self) -> None:
        self._port.write(b"stop\n")

    def close(self) -> None:
        self._port.close()

    def _unwrapped(self, time_us: int) -> int:
        self._turns += time_us < self._last_us
        self._last_us = time_us
        return time_us + self._turns * _WRAP

    def _near(self, time_us: int) -> int:
        """An edge's time, which may be earlier than a sample's that was sent before it."""
        now = self._turns * _WRAP + self._last_us
        return now + (time_us - self._last_us + _WRAP // 2) % _WRAP - _WRAP // 2

    def _samples(self, rows: list[tuple], energies: list[int | None],
                 edges: list[tuple[float, int]], lost: int, damaged: int) -> Samples:
        table = np.array(rows, np.float64).reshape(-1, 2 + 2 * self._channels)
        volts, amperes = table[:, 2::2] * 1e-6, table[:, 3::2] * 1e-9  # [n, channels]
        watts = volts * amperes
        one = self._channels == 1
        counted = bool(energies) and None not in energies
        return Samples(
            table[:, 0] * 1e-6, watts.sum(1),
            voltage_v=volts[:, 0] if one else None, current_a=amperes[:, 0] if one else None,
            trigger=table[:, 1] > 0,
            energy_j=np.array(energies, np.float64) * 1e-9 if counted or not rows else None,
            lost=lost, damaged=damaged,
            edges=np.array(edges, np.float64).reshape(-1, 2) if edges else None,
            rails_w={} if one else {f"ch{i + 1}": watts[:, i] for i in range(self._channels)})


def open_meter(kind: str, where: str) -> Bridge:
    """The bridge at port `where`."""
    return Bridge(kind, where)
