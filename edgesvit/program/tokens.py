"""Which tokens go on: the definition of the integer scores and of the choice made by them.

They are those of TP-Spikformer (ICLR 2026, arXiv 2603.00527); models/tokens.py has them in PyTorch:
a token is informative when it differs from its neighbourhood and when it changes between steps.
Averages over steps, windows and channels are sums here: neither the cosine nor the normalisation to
0..1 sees a common factor. Fractions are in units of 2**-16, every division and root rounds down, so
that no machine needs more than 64-bit integers.
"""

import numpy as np

ONE = 1 << 16


def token_scores(features: np.ndarray, window: int, spatial: int, temporal: int) -> np.ndarray:
    """int64 features [T, H, W, C] -> scores [H, W], each part normalised over the map to 0..ONE."""
    total = features.sum(0)
    unlike = unlikeness(total, window_sums(total, window))
    changes = np.abs(np.diff(features, axis=0, prepend=0)).sum((0, 3))
    return spatial * normalised(unlike) + temporal * normalised(changes)


def chosen(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` tokens with the highest scores in ascending order, uint16; ties to the lower."""
    order = np.argsort(-scores.reshape(-1), kind="stable")
    return np.sort(order[:count]).astype(np.uint16)


def window_sums(x: np.ndarray, window: int) -> np.ndarray:
    """[H, W, C] -> sums over the window x window tokens around each that lie inside the map."""
    side = window // 2
    for axis in (0, 1):
        pad = [(side, side) if axis == i else (0, 0) for i in range(3)]
        x = np.lib.stride_tricks.sliding_window_view(np.pad(x, pad), window, axis).sum(-1)
    return x


def unlikeness(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """ONE minus the cosine of two vectors [..., C], 0..2 ONE; 0 where x is 0, ONE where y is.

    With n 4**a the square n brought to 2**60..2**62: cos = x y 2**(a + b) / (sqrt(n_x 4**a)
    sqrt(n_y 4**b)).
    """
    product, square_x, square_y = (x * y).sum(-1), (x * x).sum(-1), (y * y).sum(-1)
    (root_x, a), (root_y, b) = _root(np.maximum(square_x, 1)), _root(np.maximum(square_y, 1))
    cosine = (np.abs(product) << (a + b)) // (root_x * root_y >> 16)
    return np.where(square_x == 0, 0, ONE - np.sign(product) * np.minimum(cosine, ONE))


def _root(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """floor(sqrt(square * 4**a)) in 2**30..2**31, and the largest such a."""
    exponent = np.zeros_like(square)
    for bits in (32, 16, 8, 4, 2):
        small = square < 1 << 62 - bits
        square, exponent = np.where(small, square << bits, square), exponent + small * (bits // 2)
    root = np.sqrt(square.astype(np.float64)).astype(np.int64)  # off by one at most
    root -= root * root > square
    return root + ((root + 1) ** 2 <= square), exponent


def normalised(x: np.ndarray) -> np.ndarray:
    """Values to 0..ONE over the whole map; all 0 when they are equal."""
    low, high = x.min(), x.max()
    return (x - low) * ONE // max(high - low, 1)
