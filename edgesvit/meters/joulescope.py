"""Joulescope JS220 and JS110, through their maker's package (the extra `joulescope`).

Not a serial port: the package speaks USB. It delivers statistics ten times a second with the
instrument's own energy accumulator, so the rate limits the edges of a window, not its energy.
"""

import queue
from contextlib import suppress

import numpy as np

from edgesvit.errors import Unreachable, UsageError
from edgesvit.meters.samples import EMPTY, About, Samples, join

SILENCE_S = 3.0
RATE_HZ = 10


def _driver():
    try:
        from pyjoulescope_driver import Driver
    except ImportError:
        raise UsageError("--meter joulescope needs the package pyjoulescope-driver",
                         "pip install pyjoulescope-driver") from None
    return Driver()


class Joulescope:
    """The instrument whose path holds `where` (a serial number); the only one without `where`."""

    def __init__(self, where: str):
        self._driver = _driver()
        paths = [path for path in self._driver.device_paths() if where in path]
        if len(paths) != 1:
            raise Unreachable(f"joulescope: {len(paths)} instruments found"
                              f"{': ' + ', '.join(paths) if paths else ''}",
                              "--meter joulescope:SERIAL chooses one" if paths
                              else "is it plugged in, and may this user open it?")
        self._path = paths[0]
        self._values: queue.Queue = queue.Queue()
        js110 = "js110" in self._path.lower()
        self._settings = (
            [("s/i/range/select", "auto"), ("s/i/ctrl", "on"), ("s/v/ctrl", "on"),
             ("s/p/ctrl", "on"), ("s/stats/scnt", 2_000_000 // RATE_HZ)] if js110 else
            [("s/i/range/mode", "auto"), ("s/stats/scnt", 1_000_000 // RATE_HZ)])
        self._driver.open(self._path)
        self.about = About(
            kind="js110" if js110 else "js220", serial=self._path.rsplit("/", 1)[-1],
            settings={"rate_hz": RATE_HZ, "range": "auto"}, covers="what flows through it",
            error_percent=0.5 if js110 else 0.1)

    def begin(self) -> None:
        for topic, value in self._settings:
            self._driver.publish(f"{self._path}/{topic}", value)
        self._driver.subscribe(f"{self._path}/s/stats/value", "pub", self._arrived)
        self._driver.publish(f"{self._path}/s/stats/ctrl", 1)

    def _arrived(self, topic: str, value: dict) -> None:
        self._values.put(value)  # called from the driver's thread

    def read(self) -> Samples:
        try:
            values = [self._values.get(timeout=SILENCE_S)]
        except queue.Empty:
            raise Unreachable(f"joulescope {self._path}: silent for {SILENCE_S:g} s",
                              "is it still plugged in?") from None
        with suppress(queue.Empty):
            while True:
                values.append(self._values.get_nowait())
        return join([_sample(value) for value in values]) if values else EMPTY

    def end(self) -> None:
        self._driver.publish(f"{self._path}/s/stats/ctrl", 0)
        self._driver.unsubscribe(f"{self._path}/s/stats/value", self._arrived)

    def close(self) -> None:
        self._driver.close(self._path)


def _sample(value: dict) -> Samples:
    """One of its statistics; it stands at the end of its stretch, where the accumulator is read."""
    samples, rate_hz = (value["time"][key]["value"] for key in ("samples", "sample_freq"))
    volts, amperes, watts = (value["signals"][name]["avg"]["value"]
                             for name in ("voltage", "current", "power"))
    energy_j = value["accumulators"]["energy"]["value"]
    return Samples(*(np.array([float(item)]) for item in
                     (samples[1] / rate_hz, watts, volts, amperes)),
                   energy_j=np.array([float(energy_j)]))


def open_meter(kind: str, where: str) -> Joulescope:
    """The instrument."""
    return Joulescope(where)
