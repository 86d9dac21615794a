"""Windows of repeated inferences: when each began and ended, on the board's clock and on ours."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.measure.energy import Clock, fit_clock

LEAST_INFERENCES = 10


@dataclass(frozen=True)
class Plan:
    """What is repeated: `windows` of `seconds` (and LEAST_INFERENCES) after `idle_s` of rest."""

    seconds: float = 10.0
    windows: int = 5
    idle_s: float = 5.0

    def options(self) -> list[str]:
        """For the Linux runner."""
        return ["--windows", str(self.windows), "--seconds", f"{self.seconds:g}",
                "--idle", f"{self.idle_s:g}"]


@dataclass
class Window:
    """One window. `seconds` is None where the clock is an emulator's."""

    begin_s: float  # on our clock (time.monotonic)
    end_s: float
    inferences: int
    seconds: float | None = None
    sample_us: list[float] = field(default_factory=list)  # time of an inference, mean of a sample
    sample_inferences: int = 1  # in one sample


@dataclass
class Windows:
    """All windows of a run; `edge_error_s`: how far the edges may lie from where they are told."""

    work: list[Window]
    idle: tuple[float, float] | None
    edge_error_s: float
    board_clock: Clock | None = None


def read_windows(lines: Iterable[tuple[float, str]], emulated: bool, same_clock: bool,
                 what: str) -> Windows:
    """From the runner's `window` and `samples` lines, each with when it reached us.

    A real board's clock is matched with ours; `same_clock`: it is ours. An emulator's clock
    follows the instructions, so there the arrivals are the edges.
    Raises Unreachable when a window has no end, EdgesvitError when a line makes no sense.
    """
    edges, sampled = [], {}
    try:
        for arrived_s, line in lines:
            word, _, rest = line.partition(" ")
            told = dict(part.partition("=")[::2] for part in rest.split())
            if word == "window":
                edges.append((told["kind"], int(told["index"]), told["edge"],
                              int(told["ns"]) * 1e-9, arrived_s, int(told["inferences"])))
            elif word == "samples":
                each = int(told["inferences"])
                values = [int(ns) / each / 1000 for ns in told["ns"].split(",")]
                sampled[int(told["index"])] = (each, values)
    except (KeyError, ValueError) as error:
        raise EdgesvitError(f"{what}: cannot read the runner's window: {error}") from None
    clock = None if emulated or same_clock or not edges else fit_clock(
        np.array([(ns, arrived) for *_, ns, arrived, _ in edges]))

    def ours(edge: tuple) -> float:
        return edge[4] if emulated else edge[3] if clock is None else float(clock.ours(edge[3]))

    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    if any(a[:2] != b[:2] or (a[2], b[2]) != ("begin", "end") for a, b in pairs) or \
            2 * len(pairs) != len(edges) or not any(a[0] == "work" for a, _ in pairs):
        raise Unreachable(f"{what}: a measured window has no end", "run it again")
    work = [Window(ours(a), ours(b), b[5], None if emulated else b[3] - a[3],
                   [] if emulated else sampled.get(a[1], (1, []))[1], sampled.get(a[1], (1,))[0])
            for a, b in pairs if a[0] == "work"]
    idle = next(((ours(a), ours(b)) for a, b in pairs if a[0] == "idle"), None)
    error_s = 0.0 if same_clock else 0.005 if clock is None else clock.error_s
    return Windows(work, None if emulated else idle, error_s, clock)
