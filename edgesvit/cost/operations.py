"""What a spike program does for an image: MACs, synaptic operations, firing rates.

A synaptic operation (SOP) is one accumulate caused by one spike (a level of n causes n), each
kernel position counted once. MACs are those of dense execution over all T steps, as the field
counts them; only the first convolution really multiplies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesvit.program.interpret import decode, patches, trace
from edgesvit.program.ops import (
    Classify,
    EncodeConv,
    Kind,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    conv_size,
)


@dataclass(frozen=True)
class Work:
    """One operator's work for one image, means over the images given.

    `rate` is the mean of its input per neuron and step, `union` the share of input neurons that
    are not silent in all T steps; None for operators without weights and spikes to add.
    """

    output: str
    macs: int
    sops_int16: float
    sops_int32: float
    rate: float | None
    union: float | None

    @property
    def sops(self) -> float:
        """All accumulates, whatever their width."""
        return self.sops_int16 + self.sops_int32


def work(program: Program, images: np.ndarray) -> list[Work]:
    """The work of every operator, from the interpreter's traces of images uint8 [n, H, W, C]."""
    totals = [[_work(op, program, env) for op in program.ops]
              for env in (trace(program, image) for image in images)]
    return [_mean(rows) for rows in zip(*totals, strict=True)]


def _mean(rows: Sequence[Work]) -> Work:
    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in rows]
        return None if values[0] is None else float(np.mean(values))

    return Work(rows[0].output, rows[0].macs, mean("sops_int16"), mean("sops_int32"),
                mean("rate"), mean("union"))


def _work(op: Op, program: Program, env: dict[str, np.ndarray]) -> Work:
    def steps(name: str) -> np.ndarray:  # -> [T, H, W, C]
        if program.value(name).kind == Kind.SPIKES:
            return decode(env[name], program.time_steps)
        return env[name].astype(np.int64)

    match op:
        case EncodeConv():
            positions = _positions(op, program.value(op.input).shape)
            return Work(op.output, positions * op.weight.size, 0.0, 0.0, None, None)
        case SpikeConv():
            return _conv_work(op, steps(op.input))
        case SelfAttention():
            return _attention_work(op, *(steps(name) for name in (op.query, op.key, op.value)))
        case TokenAttention():
            query = steps(op.query)
            return Work(op.output, query.size, 0.0, float(query.sum()), float(query.mean()),
                        float(query.any(0).mean()))
        case Classify():
            # Sums over tokens and steps come first: one multiply per channel and class.
            return Work(op.output, op.weight.size, 0.0, 0.0, None, None)
        case _:
            return Work(op.output, 0, 0.0, 0.0, None, None)


def _positions(op: EncodeConv | SpikeConv, shape: tuple[int, ...]) -> int:
    """Where the kernel is applied, before any pooling."""
    return math.prod(conv_size(n, op.kernel, op.stride, op.pad) for n in shape[:2])


def _conv_work(op: SpikeConv, levels: np.ndarray) -> Work:
    reads = sum(int(patches(step.sum(-1, keepdims=True), op).sum()) for step in levels)
    narrow = int(op.certified.sum())
    macs = levels.shape[0] * _positions(op, levels.shape[1:]) * op.weight.size
    return Work(op.output, macs, float(reads * narrow),
                float(reads * (len(op.certified) - narrow)), float(levels.mean()),
                float(levels.any(0).mean()))


def _attention_work(op: SelfAttention, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Work:
    """Linear order: a pair of key and value that fire together, then a value row a query spike."""
    steps, height, width, _ = q.shape

    def fired(x: np.ndarray) -> np.ndarray:  # -> [T, N, heads], spikes of a token and head
        return x.reshape(steps, height * width, op.heads, -1).sum(-1)

    query_dim, value_dim = q.shape[-1] // op.heads, v.shape[-1] // op.heads
    pairs = int((fired(k) * fired(v)).sum())
    rows = int(fired(q).sum()) * value_dim
    dense = 2 * steps * height * width * op.heads * query_dim * value_dim
    return Work(op.output, dense, float(pairs), float(rows), float(q.mean()),
                float(q.any(0).mean()))
