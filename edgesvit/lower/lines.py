"""An integer neuron as a line: one multiplication and addition in place of D comparisons."""

import numpy as np


def line(thresholds: np.ndarray, real: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
    """slope, offset float32 [...] with floor(current * slope + offset), kept within 0..D, the
    number of `thresholds` [D, ...] reached; None where no line does it.

    Both roundings are monotone, so it is enough to look at each threshold and one below it. Of
    `real` currents, which no whole numbers are, it is the nearest line.
    """
    ordered = np.sort(thresholds.reshape(len(thresholds), -1).astype(np.float64), axis=0)
    rank = np.arange(1, len(ordered) + 1, dtype=np.float64)[:, None]
    middle = ordered - (0 if real else 0.5)  # where the line should pass a whole number
    spread = ((rank - rank.mean()) ** 2).sum()
    step = ((rank - rank.mean()) * (middle - middle.mean(0))).sum(0) / spread if spread else 1.0
    step = np.maximum(step, 1e-6 if real else 1e-3) * np.ones(ordered.shape[1])
    deviation = middle - step * rank
    start = (deviation.max(0) + deviation.min(0)) / 2
    slope, offset = (1 / step).astype(np.float32), (-start / step).astype(np.float32)

    def count(current: np.ndarray) -> np.ndarray:
        return np.floor(current.astype(np.float32) * slope + offset)

    if real or np.all(count(ordered) >= rank) and np.all(count(ordered - 1) < rank):
        shape = thresholds.shape[1:]
        return slope.reshape(shape), offset.reshape(shape)
    return None
