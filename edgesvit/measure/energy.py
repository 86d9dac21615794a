"""Joules between two marks, whatever the meter: uneven samples, gaps, two clocks, an idle floor."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.meters.samples import Samples


class Clock(NamedTuple):
    """Seconds of another clock on ours: ours = offset_s + rate * theirs."""

    offset_s: float
    rate: float
    error_s: float  # how late its messages usually came, over the earliest
    pairs: int

    @property
    def skew_ppm(self) -> float:
        """How much slower theirs runs than ours."""
        return 1e6 * (self.rate - 1)

    def ours(self, theirs_s: np.ndarray | float) -> np.ndarray | float:
        return self.offset_s + self.rate * theirs_s


SAME_CLOCK = Clock(0.0, 1.0, 0.0, 0)
LEAST_SPAN_S = 5.0  # over a shorter time the delays say nothing about the rate


def fit_clock(pairs: np.ndarray) -> Clock:
    """From pairs [n, 2] of a clock's reading and our clock when that reading reached us.

    A message may come late, never early: the line that no pair lies below and that is nearest to
    all of them, which is an edge of the lower convex hull (Moon et al., "Estimation and removal of
    clock skew from network delay measurements", 1999).
    """
    pairs = np.asarray(pairs, np.float64).reshape(-1, 2)
    if not len(pairs):
        raise EdgesvitError("no sample of the meter carries a time")
    theirs, ours = pairs[np.lexsort(pairs.T[::-1])].T
    rate = 1.0
    if np.ptp(theirs) >= LEAST_SPAN_S:
        middle = theirs.mean()
        hull = _lower_hull(theirs, ours)
        right = int(np.searchsorted(theirs[hull], middle))
        a, b = hull[max(right - 1, 0)], hull[max(right, 1)]
        rate = float((ours[b] - ours[a]) / (theirs[b] - theirs[a]))
    late = ours - rate * theirs
    return Clock(float(late.min()), rate, float(np.median(late) - late.min()), len(pairs))


def _lower_hull(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices of the lower convex hull of points sorted by x (Andrew's monotone chain)."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) >= 2 and ((x[hull[-1]] - x[hull[-2]]) * (y[i] - y[hull[-2]])
                                  <= (y[hull[-1]] - y[hull[-2]]) * (x[i] - x[hull[-2]])):
            hull.pop()
        while hull and x[hull[-1]] == x[i]:  # of equal readings the earliest arrival, sorted first
            break
        else:
            hull.append(i)
    return hull


class Integral(NamedTuple):
    """Energy of a stretch. `error_j` is what the gaps and the meter's spacing leave open."""

    energy_j: float
    seconds: float
    samples: int
    gaps: int
    gap_s: float
    error_j: float


def integrate(samples: Samples, begin_s: float, end_s: float) -> Integral:
    """Joules from `begin_s` to `end_s` on the meter's clock.

    By the meter's own accumulator where it has one, else by the trapezoid rule over the samples as
    they lie; the ends are interpolated. Raises EdgesvitError when the samples do not reach over the
    whole stretch.
    """
    t = samples.time_s
    inside = (t > begin_s) & (t < end_s)
    usual_s = float(np.median(np.diff(t))) if len(t) > 1 else math.inf
    if len(t) < 2 or begin_s < t[0] - usual_s or end_s > t[-1] + usual_s or end_s <= begin_s:
        raise EdgesvitError(
            f"the meter's samples do not cover the measured {end_s - begin_s:.3f} s",
            "a meter this slow needs longer windows: --seconds 30" if usual_s > 0.5 else
            "did the meter lose its samples? see the recording")
    gaps = samples.gaps()
    gaps = gaps[(gaps[:, 1] > begin_s) & (gaps[:, 0] < end_s)]
    gap_s = float(np.sum(np.minimum(gaps[:, 1], end_s) - np.maximum(gaps[:, 0], begin_s)))
    if samples.energy_j is not None:
        before, after = np.interp([begin_s, end_s], t, samples.energy_j)
        # Between two readings of the accumulator only its mean power is known.
        edge_j = usual_s * float(np.ptp(samples.power_w))
        return Integral(float(after - before), end_s - begin_s, int(inside.sum()), len(gaps),
                        gap_s, edge_j)
    edges_w = np.interp([begin_s, end_s], t, samples.power_w)
    times = np.concatenate([[begin_s], t[inside], [end_s]])
    watts = np.concatenate([edges_w[:1], samples.power_w[inside], edges_w[1:]])
    # In a gap the power may have been anything that it was elsewhere.
    error_j = gap_s * float(np.ptp(watts)) / 2 + usual_s * abs(float(edges_w[1] - edges_w[0]))
    return Integral(float(np.trapezoid(watts, times) if hasattr(np, "trapezoid")
                          else np.trapz(watts, times)),
                    end_s - begin_s, int(inside.sum()), len(gaps), gap_s, error_j)


def trigger_windows(samples: Samples) -> list[tuple[float, float]]:
    """Begin and end of each time the trigger was high, on the meter's clock; whole ones only."""
    if samples.edges is not None:
        rises, falls = (samples.edges[samples.edges[:, 1] == level, 0] for level in (1, 0))
    elif samples.trigger is not None and len(samples):
        level = samples.trigger.astype(np.int8)
        # An edge lies somewhere between two samples: the middle.
        middles = (samples.time_s[1:] + samples.time_s[:-1]) / 2
        rises, falls = (middles[np.diff(level) == way] for way in (1, -1))
    else:
        return []
    falls = falls[falls > rises[0]] if len(rises) else falls[:0]
    return list(zip(rises.tolist(), falls.tolist(), strict=False))


class WindowEnergy(msgspec.Struct, frozen=True):
    """One window: `begin_s` and `end_s` on the meter's clock."""

    begin_s: float
    end_s: float
    inferences: int
    energy_j: float
    samples: int
    gaps: int
    gap_s: float


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of an inference, idle power taken off and not; medians over the windows.

    `label` is measured, or emulated when the board or the meter is. `uncertainty_mj` is one
    standard deviation: the meter's own error, the spread of the windows, the clocks and the gaps,
    as `uncertainty_parts_mj` tells them apart.
    """

    label: str
    mj_per_inference: float
    mj_per_inference_above_idle: float | None
    uncertainty_mj: float
    uncertainty_parts_mj: dict[str, float]
    idle_w: float | None
    mean_w: float
    windows: list[WindowEnergy]
    lost_samples: int
    damaged_samples: int
    clock_skew_ppm: float | None
    clock_error_us: float | None
    warnings: list[str]


def energy(samples: Samples, windows: Sequence[tuple[float, float]], inferences: Sequence[int],
           idle: tuple[float, float] | None, label: str, error_percent: float,
           edge_error_s: float, skew_ppm: float | None) -> Energy:
    """Joules of each window [begin, end] on the meter's clock, with `inferences` in each.

    `edge_error_s` is how far each edge may be off; `idle` a stretch in which the board waited.
    """
    parts = [integrate(samples, *window) for window in windows]
    floor = integrate(samples, *idle) if idle else None
    idle_w = floor.energy_j / floor.seconds if floor else None
    mj = [1000 * part.energy_j / count for part, count in zip(parts, inferences, strict=True)]
    net = [1000 * (part.energy_j - idle_w * part.seconds) / count
           for part, count in zip(parts, inferences, strict=True)] if floor else None
    mean_w = sum(part.energy_j for part in parts) / sum(part.seconds for part in parts)
    usual = statistics.mean(inferences)
    step_w = abs(mean_w - idle_w) if floor else mean_w
    errors = {
        "meter": (0.0 if math.isnan(error_percent) else error_percent / 100)
        * statistics.median(mj),
        "windows": statistics.stdev(mj) / math.sqrt(len(mj)) if len(mj) > 1 else 0.0,
        "clocks": 1000 * math.sqrt(2) * edge_error_s * step_w / usual,
        "gaps": 1000 * statistics.mean(part.error_j for part in parts) / usual,
    }
    gap_share = sum(part.gap_s for part in parts) / sum(part.seconds for part in parts)
    return Energy(
        label=label, mj_per_inference=statistics.median(mj),
        mj_per_inference_above_idle=statistics.median(net) if net else None,
        uncertainty_mj=math.sqrt(sum(error**2 for error in errors.values())),
        uncertainty_parts_mj=errors, idle_w=idle_w, mean_w=mean_w,
        windows=[WindowEnergy(*window, count, part.energy_j, part.samples, part.gaps, part.gap_s)
                 for window, count, part in zip(windows, inferences, parts, strict=True)],
        lost_samples=samples.lost, damaged_samples=samples.damaged, clock_skew_ppm=skew_ppm,
        clock_error_us=None if skew_ppm is None else 1e6 * edge_error_s,
        warnings=_warnings(gap_share, parts, error_percent, skew_ppm))


def _warnings(gap_share: float, parts: Sequence[Integral], error_percent: float,
              skew_ppm: float | None) -> list[str]:
    said = []
    if gap_share > 0.01:
        said.append(f"{100 * gap_share:.1f} % of the windows has no samples: interpolated")
    if min(part.samples for part in parts) < 10:
        said.append("fewer than 10 samples in a window: take longer windows")
    if math.isnan(error_percent):
        said.append("the meter's own error is not known and not in the uncertainty")
    if skew_ppm is not None and abs(skew_ppm) > 1000:
        said.append(f"the meter's clock is {skew_ppm:.0f} ppm off: it may have lost samples "
                    "without noticing")
    return said
