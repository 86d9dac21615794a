"""What the layers of a trained model read on one image, for the layer programs."""

import hashlib
from dataclasses import dataclass

import numpy as np

from edgesvit.program import interpret
from edgesvit.program.ops import Kind, Op, Program, SpikeConv
from edgesvit.resources import cache_dir
from peers.layers import Firing, Layer


@dataclass(frozen=True)
class Recording:
    """A layer of the model with the spikes it read, and made-up ones of the same rate."""

    name: str
    layer: Layer
    real: Firing
    like: Firing  # LIF-like, of the rate to the next percent


def recordings(program: Program, image: np.ndarray) -> list[Recording]:
    """Of every convolution of spikes that a Layer describes: square, stride 1, no pooling."""
    env = interpret.trace(program, image)
    found = []
    for op in program.ops:
        if isinstance(op, SpikeConv) and _is_layer(program, op):
            codes = env[op.input]
            layer = Layer(codes.shape[2], op.channels, op.kernel, program.time_steps,
                          codes.shape[0])
            rate = interpret.decode(codes, program.time_steps).mean()
            found.append(Recording(op.output, layer, _written(codes), Firing(round(100 * rate))))
    return found


def _is_layer(program: Program, op: Op) -> bool:
    source, out = program.value(op.input), program.value(op.output)
    return (source.kind == out.kind == Kind.SPIKES and source.shape[0] == source.shape[1]
            and (op.stride, op.pad, op.pool) == (1, op.kernel // 2, 0))


def _written(codes: np.ndarray) -> Firing:
    data = np.ascontiguousarray(codes).tobytes()
    path = cache_dir("recorded", hashlib.sha256(data).hexdigest()[:24]) / "codes"
    path.write_bytes(data)
    return Firing(0, "recorded", path)
