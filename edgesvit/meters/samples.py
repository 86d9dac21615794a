"""What a meter delivers: samples on its own clock, and what must be known to trust them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

GAP_PERIODS = 4  # samples farther apart than this many usual periods have a gap between them


class About(msgspec.Struct, frozen=True, kw_only=True):
    """A meter as it goes into a result.

    `error_percent` is the data sheet's, typical, at a usual current. `emulated`: something speaks
    the meter's protocol but measures nothing; its figures are never called measured.
    """

    kind: str
    serial: str = ""
    settings: dict[str, str | int | float] = {}
    covers: str  # which part of the board's power passes through it
    error_percent: float
    emulated: bool = False


@dataclass
class Samples:
    """n samples; `time_s` is the meter's clock, which starts anywhere. None: not measured.

    `energy_j` is the meter's own accumulator, `trigger` the level of its marker input, `edges` when
    exactly it changed and to what, where the meter stamps that by itself. `lost`
    counts the samples that the meter took and that never arrived, as far as that shows.
    """

    time_s: np.ndarray  # float64 [n]
    power_w: np.ndarray  # float64 [n]
    voltage_v: np.ndarray | None = None  # float64 [n]
    current_a: np.ndarray | None = None  # float64 [n]
    trigger: np.ndarray | None = None  # bool [n]
    energy_j: np.ndarray | None = None  # float64 [n]
    lost: int = 0
    damaged: int = 0  # lines or packets that failed their check
    edges: np.ndarray | None = None  # float64 [changes, 2]: time_s, level
    rails_w: dict[str, np.ndarray] = field(default_factory=dict)  # name -> float64 [n]

    def __len__(self) -> int:
        return len(self.time_s)

    def gaps(self) -> np.ndarray:
        """Begin and end of each stretch without samples [gaps, 2], in seconds of `time_s`."""
        steps = np.diff(self.time_s)
        if not len(steps):
            return np.zeros((0, 2))
        at = np.flatnonzero(steps > GAP_PERIODS * np.median(steps))
        return np.stack([self.time_s[at], self.time_s[at + 1]], 1)


EMPTY = Samples(np.zeros(0), np.zeros(0))


def from_volts(time_s: np.ndarray, voltage_v: np.ndarray, current_a: np.ndarray, **more) -> Samples:
    """Samples of a meter that tells voltage and current, each [n]."""
    return Samples(time_s, voltage_v * current_a, voltage_v, current_a, **more)


def join(parts: Sequence[Samples]) -> Samples:
    """One after the other; what one of them lacks, all lack."""
    lost, damaged = sum(part.lost for part in parts), sum(part.damaged for part in parts)
    filled = [part for part in parts if len(part)]
    if not filled:
        return Samples(np.zeros(0), np.zeros(0), lost=lost, damaged=damaged)

    def column(name: str) -> np.ndarray | None:
        values = [getattr(part, name) for part in filled]
        return None if any(value is None for value in values) else np.concatenate(values)

    names = ("time_s", "power_w", "voltage_v", "current_a", "trigger", "energy_j")
    rails = {rail: np.concatenate([part.rails_w[rail] for part in filled])
             for rail in filled[0].rails_w if all(rail in part.rails_w for part in filled)}
    edges = [part.edges for part in parts if part.edges is not None]
    return Samples(*map(column, names), lost=lost, damaged=damaged, rails_w=rails,
                   edges=np.concatenate(edges) if edges else None)
