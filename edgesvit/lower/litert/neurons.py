"""Neurons on exact integers, every operator one that XNNPACK takes.

LIF of one step: v = floor(v / 2 + current / 2); `silent` = min(relu(threshold - v), 1 / 2), which
is 0 where v reaches the threshold and 1/2 elsewhere, as all are integers; the spike is 1 - 2 silent
and the half of the membrane that stays v * silent.
"""

import numpy as np

from edgesvit.lower.lines import line
from edgesvit.lower.litert.graph import Graph
from edgesvit.lower.litert.integers import Number, reached, require, short_of


def lif(g: Graph, current: Number, threshold: np.ndarray | float, steps: int, zeros: int = 0,
        real: bool = False) -> int:
    """Spikes float [T, ...] of currents [T, ...], or of [1, ...] that come at every step.

    The lowest `zeros` bits of all currents are 0: so many halvings need no rounding. Of `real`
    currents nothing is rounded, and the distance to the threshold goes up to a whole number.
    """
    if current.high is not None:
        return _wide_lif(g, current, threshold, steps)
    require(2 * current.bound, "the sum of membrane and current")
    halves = g.steps(g.scaled(current.low, 0.5))
    halves *= steps // len(halves)
    silent, membrane = [], None  # both of them halved too
    for t, x in enumerate(halves):
        v = x if membrane is None else g.binary("ADD", membrane, x)
        if t >= zeros and not real:
            v = g.unary("FLOOR", v)
        short = _above(g, v, threshold) if real else short_of(
            g, Number(v, current.bound), threshold)
        silent.append(g.binary("MINIMUM", short, g.number(0.5)))
        if t + 1 < steps:
            membrane = g.binary("MUL", v, silent[-1])
    return g.binary("SUB", g.number(1), g.scaled(g.joined(silent), 2))


def _wide_lif(g: Graph, current: Number, threshold: np.ndarray | int, steps: int) -> int:
    """LIF in two digits. An odd high digit hands half a base down; the low digit, which takes that
    and what it had, stays below two bases.
    """
    base, one = current.base, g.number(1)
    require(2 * (current.bound // base + 2), "the sum of membrane and current")
    highs, lows = g.steps(current.high), g.steps(current.low)
    highs, lows = (x * (steps // len(x)) for x in (highs, lows))
    spikes, high, low = [], None, None
    for t, (x, y) in enumerate(zip(highs, lows, strict=True)):
        if high is not None:
            x, y = g.binary("ADD", high, x), g.binary("ADD", low, y)
        half = g.scaled(x, 0.5)
        high = g.unary("FLOOR", half)
        handed = g.scaled(g.binary("SUB", half, high), base)  # 0 or base / 2
        low = g.binary("ADD", g.unary("FLOOR", g.scaled(y, 0.5)), handed)
        v = Number(low, current.bound, high, base)
        silent = g.binary("MINIMUM", short_of(g, v, threshold), one)
        spikes.append(g.binary("SUB", one, silent))
        if t + 1 < steps:
            high, low = g.binary("MUL", high, silent), g.binary("MUL", low, silent)
    return g.joined(spikes)


def _above(g: Graph, x: int, threshold: np.ndarray | float) -> int:
    """0 where x >= threshold, else a whole number of at least 1."""
    return g.unary("RELU", g.unary("CEIL", g.binary("SUB", g.number(threshold), x)))


def levels(g: Graph, current: Number, thresholds: np.ndarray, real: bool = False) -> int:
    """The integer neuron: how many of `thresholds` [D, ...] are reached, float.

    Of `real` currents it is the nearest line's answer, where there is one for integers.
    """
    found = None if current.high is not None else line(thresholds, real)
    if found is not None:
        slope, offset = found
        y = g.binary("ADD", g.scaled(current.low, slope), g.number(offset), relu=True)
        return g.binary("MINIMUM", g.unary("FLOOR", y), g.number(len(thresholds)))
    total = reached(g, current, thresholds[0])
    for threshold in thresholds[1:]:
        total = g.binary("ADD", total, reached(g, current, threshold))
    return total
