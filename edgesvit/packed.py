"""Weights as the integers that boards use: a quarter of the bytes of a float file.

A packed tensor is int8 with its scales float32 beside it under `NAME:scale`, one per output
channel, one for a whole classifier: the scales that `edgesvit.program.build` would choose, so that
a program built from packed weights has the integers of one built from the float weights. (Not to
the last unit where a program multiplies something into a layer's inputs: pixels' deviations,
SDT-V2's membranes.)
"""

from collections.abc import Mapping

import numpy as np

SCALE = ":scale"
TOP = 127


def pack(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round every float tensor of two or more axes, [C, ...]; the others stay as they are."""
    packed = {}
    for name, array in weights.items():
        if array.ndim < 2 or array.dtype.kind != "f":
            packed[name] = array
            continue
        channels = 1 if name.startswith("head") else len(array)
        largest = np.abs(array.astype(np.float64)).reshape(channels, -1).max(1)
        scale = (np.maximum(largest, 1e-30) / TOP).reshape(-1, *(1,) * (array.ndim - 1))
        packed[name] = np.rint(array / scale).astype(np.int8)
        packed[name + SCALE] = scale.astype(np.float32).reshape(-1)
    return packed


def unpack(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The float32 weights again; weights that were never packed come back unchanged."""
    plain = {}
    for name, array in weights.items():
        scale = weights.get(name + SCALE)
        if scale is not None:
            plain[name] = array * scale.reshape(-1, *(1,) * (array.ndim - 1))
        elif not name.endswith(SCALE):
            plain[name] = array
    return plain
