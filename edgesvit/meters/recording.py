"""Record a meter that hangs on this machine while something else happens."""

import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.meters.samples import About, Samples, join

JOIN_S = 10.0  # longer than any meter's read may wait
FIRST_S = 5.0  # the first sample must be there by then


class Meter(Protocol):
    """What each file of this folder offers for a meter at a port of this machine."""

    about: About

    def begin(self) -> None:
        """Start sampling."""

    def read(self) -> Samples:
        """What has come since the last call, after at most a second; raises Unreachable."""

    def end(self) -> None:
        """Stop sampling; the meter stays open."""

    def close(self) -> None:
        """Give the port back."""


@dataclass
class Trace:
    """A recording. `arrivals` pairs the meter's clock with ours, for the last sample of a read;
    `marks` are on our clock (time.monotonic). `fault` is why it ended early, if it did."""

    about: About
    samples: Samples
    arrivals: np.ndarray  # float64 [reads, 2]
    marks: list[tuple[str, float]] = field(default_factory=list)
    fault: EdgesvitError | None = None


class Recording:
    """start, mark, stop: the meter is read in a thread. What goes wrong there ends the recording,
    not the program: `stop` returns what came before it, and the fault beside it."""

    def __init__(self, meter: Meter):
        self.meter = meter
        self._parts: list[Samples] = []
        self._arrivals: list[tuple[float, float]] = []
        self._marks: list[tuple[str, float]] = []
        self._fault: EdgesvitError | None = None
        self._ending = threading.Event()
        self._sampling = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def start(self) -> None:
        """Returns when the first sample is there; raises what keeps it from coming."""
        self._thread.start()
        if not self._sampling.wait(FIRST_S):
            self._ending.set()
            raise Unreachable(f"{self.meter.about.kind}: no sample for {FIRST_S:g} s",
                              "is the meter's output on, and is it wired?")
        if self._fault:
            raise self._fault

    def mark(self, name: str) -> None:
        """Remember this moment."""
        self._marks.append((name, time.monotonic()))

    def stop(self) -> Trace:
        """End it; what was recorded."""
        self._ending.set()
        self._thread.join(JOIN_S)
        if self._thread.is_alive() and not self._fault:
            self._fault = Unreachable(f"{self.meter.about.kind}: does not stop sampling")
        arrivals = np.array(self._arrivals, np.float64).reshape(-1, 2)
        return Trace(self.meter.about, join(list(self._parts)), arrivals, list(self._marks),
                     self._fault)

    @property
    def fault(self) -> EdgesvitError | None:
        """Why the recording has already ended, None while it runs."""
        return self._fault

    @property
    def count(self) -> int:
        """Samples so far."""
        return sum(map(len, self._parts))

    def _record(self) -> None:
        try:
            self.meter.begin()
            while not self._ending.is_set():
                self._keep(self.meter.read())
            self.meter.end()
        except EdgesvitError as error:
            self._fault = error
        finally:
            self._sampling.set()

    def _keep(self, part: Samples) -> None:
        self._parts.append(part)
        if len(part):
            self._arrivals.append((float(part.time_s[-1]), time.monotonic()))
            self._sampling.set()
