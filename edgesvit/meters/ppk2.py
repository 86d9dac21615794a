"""Nordic Power Profiler Kit II: 100 000 samples a second from 200 nA to 1 A, no framing.

Bytes and formulas as Nordic's own desktop program sends and uses them (pc-nrfconnect-ppk).
"""

import re
from dataclasses import dataclass

import numpy as np

from edgesvit.errors import Unreachable, UsageError
from edgesvit.meters.port import MeterPort
from edgesvit.meters.samples import About, Samples, from_volts

RATE_HZ = 100_000
ANSWER_S = 1.0
ADC_STEP_V = 1.8 / 163840  # four of them are one count of the converter
RANGES = 5
PROBE_WORDS = 32  # enough to see whether their counters count
SHUNTS_OHM = (1031.64, 101.65, 10.15, 0.94, 0.043)  # where the device tells none
AVERAGE_START, AVERAGE_STOP, GET_META, RUNNING, REGULATOR, MODE = (0x06, 0x07, 0x19, 0x0C, 0x0D,
                                                                 0x11)
AMPERE_METER, SOURCE_METER = 1, 2
_PAIR = re.compile(r"(\w+): (\S+)")


@dataclass(frozen=True)
class Calibration:
    """Per range [5]: shunt, and the coefficients GS, GI, O, S, I and UG of the metadata."""

    shunt_ohm: np.ndarray
    gs: np.ndarray
    gi: np.ndarray
    offset: np.ndarray
    s: np.ndarray
    i: np.ndarray
    ug: np.ndarray

    def amperes(self, adc: np.ndarray, ranges: np.ndarray, supply_v: float) -> np.ndarray:
        """Currents of converter counts [n] taken in `ranges` [n]."""
        k = np.minimum(ranges, RANGES - 1)
        raw = (4.0 * adc - self.offset[k]) * (ADC_STEP_V / self.shunt_ohm[k])
        return self.ug[k] * (raw * (self.gs[k] * raw + self.gi[k])
                             + (self.s[k] * supply_v + self.i[k]))


def calibration(metadata: str) -> Calibration:
    """From the lines `R0: 1031.64`, ...; what is missing, zero or `nan` takes its usual value."""
    told = {name: _number(value) for name, value in _PAIR.findall(metadata)}

    def row(prefix: str, usual: tuple[float, ...], zero_is_missing: bool = False) -> np.ndarray:
        values = [told.get(f"{prefix}{k}") for k in range(RANGES)]
        return np.array([usual[k] if value is None or (zero_is_missing and not value) else value
                         for k, value in enumerate(values)])

    ones, zeros = (1.0,) * RANGES, (0.0,) * RANGES
    return Calibration(row("R", SHUNTS_OHM, True), row("GS", ones), row("GI", ones),
                       row("O", zeros), row("S", zeros), row("I", zeros), row("UG", ones, True))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


class Ppk2:
    """One kit. `where` is PORT, PORT@3300 to supply the board with that many mV, or
    PORT=3300 to measure in a board's own supply of that voltage."""

    def __init__(self, where: str):
        place, mode, millivolts = _parts(where)
        self._port = MeterPort(place, "ppk2")
        self._volts = millivolts / 1000
        self._mode = mode
        self._count: int | None = None  # of the next sample, 6 bits
        self._taken = 0  # samples since the start, the lost ones with them
        self._rest = b""
        try:
            metadata = self._metadata()
        except Unreachable:
            self._port.close()
            raise
        self._calibration = calibration(metadata)
        told = dict(_PAIR.findall(metadata))
        source = mode == SOURCE_METER
        self.about = About(
            kind="ppk2", serial=told.get("IA", ""),
            settings={"rate_hz": RATE_HZ, "millivolts": millivolts,
                      "mode": "source" if source else "ampere"},
            covers="what it supplies" if source else "what flows through it",
            error_percent=10.0,  # data sheet: +-10 % of the reading in the worst range
            emulated=self._port.emulated)

    def _metadata(self) -> str:
        self._port.write(bytes([AVERAGE_STOP]))
        self._port.drain()
        self._port.write(bytes([GET_META]))
        answer = self._port.until(b"END", ANSWER_S)
        if b"Calibrated" not in answer or not answer.endswith(b"END"):
            raise self._port.wrong(answer, "no PPK2 answers there")
        return answer.decode(errors="replace")

    def begin(self) -> None:
        """Until here nothing was switched: a kit that was only asked who it is stays as it was."""
        self._count, self._taken, self._rest = None, 0, b""
        millivolts = round(self._volts * 1000).to_bytes(2, "big")
        self._port.write(bytes([MODE, self._mode, REGULATOR]) + millivolts)
        self._port.write(bytes([RUNNING, 1, AVERAGE_START]))

    def read(self) -> Samples:
        data = self._aligned(self._rest + self._port.some())
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        words = np.frombuffer(data[:whole], "<u4")
        lost = self._lost(words >> 18 & 63)
        at = self._taken + np.arange(len(words)) + np.cumsum(lost)
        if len(words):
            self._taken = int(at[-1]) + 1
        current_a = self._calibration.amperes(words & 0x3FFF, words >> 14 & 7, self._volts)
        return from_volts(at / RATE_HZ, np.full(len(words), self._volts), current_a,
                          trigger=(words >> 24 & 1).astype(bool), lost=int(lost.sum()))

    def _aligned(self, data: bytes) -> bytes:
        """`data` without the word that lost a byte: that shifts all that follow it.

        Raises Unreachable when the counters count nowhere: something else is talking.
        """
        words = np.frombuffer(data[:len(data) // 4 * 4], "<u4")
        if len(words) < PROBE_WORDS:
            return data
        odd = np.diff((words >> 18 & 63).astype(np.int64)) % 64 != 1
        runs = np.convolve(odd, np.ones(8), "valid") >= 7  # lost samples stand alone
        if not runs.any():
            return data
        good = 4 * (int(runs.argmax()) + 1) if not odd[:8].all() else 0
        for shift in range(1, 4):
            rest = np.frombuffer(data[good + shift:][:4 * PROBE_WORDS], "<u4", offset=0) \
                if len(data) >= good + shift + 4 * PROBE_WORDS else np.zeros(0, np.uint32)
            if len(rest) and np.mean(np.diff((rest >> 18 & 63).astype(np.int64)) % 64 == 1) > 0.8:
                return data[:good] + self._aligned(data[good + shift:])
        if good == 0 and len(words) > 4 * PROBE_WORDS:
            raise self._port.wrong(data, "what comes are no samples of a PPK2")
        return data[:good]

    def _lost(self, counts: np.ndarray) -> np.ndarray:
        """How many samples are missing before each [n]; a multiple of 64 does not show."""
        if not len(counts):
            return np.zeros(0, np.int64)
        first = int(counts[0]) if self._count is None else self._count
        expected = np.concatenate([[first], counts[:-1].astype(np.int64) + 1])
        self._count = int(counts[-1]) + 1
        return (counts.astype(np.int64) - expected) % 64

    def end(self) -> None:
        self._port.write(bytes([AVERAGE_STOP]))

    def close(self) -> None:
        """The supplied board stays on: to cut its power is the user's decision."""
        self._port.close()


def _parts(where: str) -> tuple[str, int, int]:
    """Port, mode and millivolts of `PORT[@MV|=MV]`."""
    for sign, mode in (("@", SOURCE_METER), ("=", AMPERE_METER)):
        place, found, text = where.rpartition(sign)
        if found:
            if not text.isdigit() or not 800 <= int(text) <= 5000:
                raise UsageError(f"--meter ppk2:{where}: {text!r} is no voltage",
                                 f"800 to 5000 millivolts: --meter ppk2:{place}{sign}3300")
            return place, mode, int(text)
    raise UsageError(f"--meter ppk2:{where}: at which voltage?",
                     f"--meter ppk2:{where}@3300 supplies the board with 3300 mV, "
                     f"ppk2:{where}=3300 measures in its own supply of 3300 mV")


def open_meter(kind: str, where: str) -> Ppk2:
    """The kit at `where`."""
    return Ppk2(where)
