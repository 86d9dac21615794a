"""Widths of weights: which layers have any, which belong together, what rounding does to them.

A spike program stores weights of 2 to 8 bits with a scale per output channel. The fixed-point grid
has no scale: b bits hold multiples of 2**-(b - 1) and expect |w| < 1; it is how the published
quantiser of spiking transformers is read (docs/compress.md).
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig
from edgesvit.program import build

WIDTHS = (8, 7, 6, 5, 4, 3, 2)  # of a program, widest first
FLOAT_BITS = 32
# The parts of a block that are one unit: q, k, v and proj; both layers of the MLP; a SepConv.
_UNIT = re.compile(r"(.*\.(?:attn|mlp|Conv|conv|sep_conv))\.")


def layers(config: AnyConfig, weights: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many weights each layer has, by module name, from the image to the classifier."""
    return {layer: weights[f"{layer}.weight"].size for layer in build.layers(config, weights)}


def units(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Layers that share one width: attention and MLP of each block, every other layer alone."""
    found: dict[str, list[str]] = {}
    for layer in names:
        match = _UNIT.match(f"{layer}.")
        found.setdefault(match[1] if match else layer, []).append(layer)
    return {unit: tuple(names) for unit, names in found.items()}


def fixed_point(weight: np.ndarray, bits: int, truncate: bool = False) -> np.ndarray:
    """Weights on the fixed-point grid of `bits` bits; 32 bits change nothing.

    Truncation goes toward minus infinity and clips nothing: floor(w 2**(b-1)) 2**-(b-1). Rounding
    is half to even, clipped to [-1, 1 - 2**-(b-1)].
    """
    if bits >= FLOAT_BITS:
        return weight
    if bits < 2:
        raise UsageError(f"{bits}-bit weights", "choose 2 bits or more")
    step = 2.0 ** -(bits - 1)
    if truncate:
        return (np.floor(weight / step) * step).astype(weight.dtype)
    return np.clip(np.rint(weight / step) * step, -1, 1 - step).astype(weight.dtype)


def weight_bits(sizes: Mapping[str, int], bits: Mapping[str, int], otherwise: int) -> int:
    """Bits that all weights take together: the papers' count, without scales, biases, thresholds.

    `sizes` are those of `layers`.
    """
    return sum(size * bits.get(layer, otherwise) for layer, size in sizes.items())
