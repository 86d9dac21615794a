"""ST X-NUCLEO-LPM01A (PowerShield): supplies a microcontroller board, up to 50 mA.

Commands and answers are those of UM2243 and of MLPerf Tiny's runner: text, each answered with
`ack` or `error`. It runs at 1 kHz and sends the energy of each millisecond, so nothing that is
shorter is missed.
"""

import re

import numpy as np

from edgesvit.errors import Unreachable, UsageError
from edgesvit.meters.port import MeterPort
from edgesvit.meters.samples import About, Samples

BAUD = 3_686_400
RATE_HZ = 1000
ANSWER_S = 1.0
_ENERGY = re.compile(rb"(\d{4})([+-]\d{2})")  # 6409-07 is 6409e-7 J
_STAMP = re.compile(rb"TimeStamp: +(\d+)s (\d+)ms.*")
_EVENT = re.compile(rb"event \d+ (ris|fal)")
_SETUP = ("acqtime inf", "trigdelay 0", "trigsrc sw", "eventsrc d7 fal",
          "acqmode dyn", "output energy", "format ascii_dec", f"freq {RATE_HZ // 1000}k")


class PowerShield:
    """One shield. `where` is PORT, or PORT@3300 to supply the board with that many mV."""

    def __init__(self, where: str):
        place, found, text = where.partition("@")
        if found and not (text.isdigit() and 1800 <= int(text) <= 3300):
            raise UsageError(f"--meter lpm01a:{where}: {text!r} is no voltage",
                             f"1800 to 3300 millivolts: --meter lpm01a:{place}@3300")
        self._port = MeterPort(place, "lpm01a", BAUD)
        self._millivolts = int(text) if found else 3300
        try:
            self._port.write(b"\r\n")
            self._port.drain()
            self._tell("htc")
            identity = self._tell("powershield")
            self._tell("hrc")
        except Unreachable:
            self._port.close()
            raise
        serial = re.search(rb"present\S* (\S+)", identity)
        self.about = About(
            kind="lpm01a", serial=serial[1].decode(errors="replace") if serial else "",
            settings={"rate_hz": RATE_HZ, "millivolts": self._millivolts, "acqmode": "dyn"},
            covers="what it supplies, up to 50 mA",
            error_percent=2.0,  # UM2243: dynamic mode, 2 % of the reading
            emulated=self._port.emulated)
        self._taken, self._high = 0, False

    def _tell(self, command: str) -> bytes:
        """Send a command; what it answered, which must acknowledge it."""
        self._port.write(command.encode() + b"\r\n")
        answer = self._port.until(b"> ", ANSWER_S)
        if b"ack " + command.split()[0].encode() not in answer:
            raise self._port.wrong(answer.strip(), f"no PowerShield that takes `{command}`")
        return answer

    def begin(self) -> None:
        """Until here nothing was switched. A board that it already supplies stays on."""
        self._taken, self._high = 0, False
        for command in ("htc", *_SETUP, f"volt {self._millivolts}m", "pwr on nostatus", "start"):
            self._tell(command)

    def read(self) -> Samples:
        at, joules, levels, lost, damaged = [], [], [], 0, 0
        for line in self._port.lines():
            if found := _ENERGY.fullmatch(line.strip()):
                at.append(self._taken)
                joules.append(float(found[1]) * 10.0 ** int(found[2]))
                levels.append(self._high)
                self._taken += 1
            elif found := _STAMP.fullmatch(line.strip()):
                due = (int(found[1]) * 1000 + int(found[2])) * RATE_HZ // 1000
                lost += max(0, due - self._taken)
                self._taken = max(self._taken, due)
            elif found := _EVENT.fullmatch(line.strip()):
                self._high = found[1] == b"ris"
            else:
                damaged += not line.startswith((b"ack", b"PowerShield", b"summary"))
        # The energy of a period, so its mean power, stands at the middle of the period.
        time_s = (np.array(at, np.float64) + 0.5) / RATE_HZ
        return Samples(time_s, np.array(joules, np.float64) * RATE_HZ,
                       trigger=np.array(levels, bool), lost=lost, damaged=damaged)

    def end(self) -> None:
        self._port.write(b"stop\r\n")
        self._port.until(b"Acquisition completed", ANSWER_S)
        self._port.drain()
        self._tell("hrc")

    def close(self) -> None:
        """The supplied board stays on: to cut its power is the user's decision."""
        self._port.close()


def open_meter(kind: str, where: str) -> PowerShield:
    """The shield at `where`."""
    return PowerShield(where)
