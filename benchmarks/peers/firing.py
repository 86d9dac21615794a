"""A program's neurons made to fire at a chosen rate, by scaling their thresholds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgesvit.program import interpret
from edgesvit.program.ops import (
    Add,
    EncodeConv,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
    inputs,
)
from edgesvit.program.validate import int16_certificate, validate

_HALVINGS = 14
# Deviations of a channel's bias from those of others, in deviations of the currents, and how much
# more often LIF-like neurons fire in any of 4 steps than in one: spikes.c's do at 15 %.
_SPREADS = (0, 0.2, 0.4, 0.6, 0.8, 1, 1.3, 1.6, 2, 2.5, 3, 4)
_UNION = 0.331 / 0.149
# Parts of the rate that a residual stream begins with and that all its branches add together, so
# that the layers of a model read inputs of that rate on the average.
_STREAM, _BRANCHES = 0.85, 0.4


@dataclass(frozen=True)
class LayerInput:
    """What a spiking layer reads: shares of inputs that are not 0 in a step, and in any step."""

    name: str  # of the layer
    kind: Kind
    macs: int  # of the layer, in one step
    rate: float
    union: float


def mean_firing(layers: list[LayerInput]) -> tuple[float, float]:
    """Rate and union over all layers, weighted by their multiply-accumulates."""
    macs = [layer.macs for layer in layers]
    return tuple(float(np.average([getattr(layer, name) for layer in layers], weights=macs))
                 for name in ("rate", "union"))


def calibrated(program: Program, image: np.ndarray, rate: float, where: str
               ) -> tuple[Program, list[LayerInput]]:
    """`program` with the thresholds of each layer times one number, so that on `image`

    where = "neurons": the spikes of every layer of neurons have the rate;
    where = "inputs": what layers read has it: pooled spikes, and sums of residual branches, each of
    which gets an equal part of the rate;
    where = "lif": the same on the average of all layers, and biases differ from channel to channel,
    as in a trained model, until a neuron's steps are as alike as those of LIF-like spikes.

    Also what its layers then read.
    """
    env, ops = {program.input.name: image}, []
    for op in program.ops:
        if isinstance(op, EncodeConv | SpikeConv | SelfAttention):
            wanted, seen = _aim(program, op, rate, where)
            current = _currents(program, op, env)
            if where == "lif" and isinstance(op, SpikeConv):
                op = _spread(program, op, current, wanted, seen)
            else:
                op = _scaled(program, op, current, wanted, seen)
        env[op.output] = interpret.step(op, program, env)
        ops.append(op)
    return validate(replace(program, ops=tuple(ops), check=None)), _layer_inputs(program, env)


def _aim(program: Program, op: Op, rate: float, where: str
         ) -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
    """The rate for `op`, and what has it: its codes, or what is pooled from them."""
    readers = [o for o in program.ops if op.output in inputs(o)]
    if where == "lif" and isinstance(readers[0], Add):
        return rate * _BRANCHES / sum(isinstance(o, Add) for o in program.ops), lambda codes: codes
    if where != "neurons" and isinstance(readers[0], MaxPool):
        stream = any(isinstance(o, Add) and readers[0].output in inputs(o) for o in program.ops)
        return (rate * _STREAM if where == "lif" and stream else rate,
                lambda codes: interpret.max_pool(readers[0], codes))
    if where != "neurons" and isinstance(readers[0], Add):
        return rate / (1 + sum(isinstance(o, Add) for o in program.ops)), lambda codes: codes
    return rate, lambda codes: codes


def _spread(program: Program, op: SpikeConv, current: np.ndarray, rate: float,
            seen: Callable[[np.ndarray], np.ndarray]) -> Op:
    """`op` with biases as alike as leave its neurons' steps alike, and scaled thresholds."""
    number = program.ops.index(next(o for o in program.ops if o.output == op.output))
    offset = np.random.default_rng(number).normal(0, current.std(), op.bias.size)
    for spread in _SPREADS:
        more = np.rint(spread * offset).astype(np.int32)
        moved = replace(op, bias=op.bias + more)
        moved = _scaled(program, moved, current + more, rate, seen)
        codes = seen(interpret.encode(interpret.lif(current + more, moved.threshold)))
        if (codes != 0).mean() <= _UNION * share(codes, program.time_steps):
            break
    return moved


def _scaled(program: Program, op: Op, current: np.ndarray, rate: float,
            seen: Callable[[np.ndarray], np.ndarray]) -> Op:
    """`op` with its thresholds scaled by halving the interval of the factor's logarithm."""
    low, high = -6.0, 6.0  # of the binary logarithm
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        codes = interpret.encode(interpret.lif(current, _times(op.threshold, 2.0**middle)))
        if share(seen(codes), program.time_steps) > rate:
            low = middle
        else:
            high = middle
    threshold = _times(op.threshold, 2.0**high)
    if isinstance(op, SelfAttention):
        return replace(op, threshold=int(threshold))
    if not isinstance(op, SpikeConv):
        return replace(op, threshold=threshold)
    proved = int16_certificate(op.weight, op.bias, threshold, program.value(op.input).max_level)
    return replace(op, threshold=threshold, certified=proved)


def _times(threshold: np.ndarray | int, factor: float) -> np.ndarray:
    return np.maximum(np.rint(threshold * np.float64(factor)), 1).astype(np.int32)


def _currents(program: Program, op: Op, env: dict) -> np.ndarray:
    """int32 [T, H, W, C] that the neurons of `op` get."""
    def decoded(name: str) -> np.ndarray:
        if program.value(name).kind == Kind.SPIKES:
            return interpret.decode(env[name], program.time_steps)
        return env[name].astype(np.int64)

    if isinstance(op, EncodeConv):
        current = interpret.encode_conv(op, env[op.input], program.time_steps)
    elif isinstance(op, SpikeConv):
        current = interpret.spike_conv(op, decoded(op.input))
    else:
        q, k, v = (decoded(name) for name in (op.query, op.key, op.value))
        current = _attention_currents(op, q, k, v)
    return current.astype(np.int32)


def _attention_currents(op: SelfAttention, q: np.ndarray, k: np.ndarray, v: np.ndarray
                        ) -> np.ndarray:
    steps, tokens = q.shape[0], q.shape[1] * q.shape[2]
    q, k, v = (x.reshape(steps, tokens, op.heads, -1).swapaxes(1, 2).astype(np.float64)
               for x in (q, k, v))
    mixed = (q @ (k.swapaxes(2, 3) @ v)).swapaxes(1, 2)
    return mixed.reshape(steps, tokens, 1, -1).astype(np.int64) << op.shift


def share(codes: np.ndarray, steps: int) -> float:
    """How often a bit of the codes is set."""
    return float(np.mean([(codes >> t & 1).mean() for t in range(steps)]))


def _layer_inputs(program: Program, env: dict) -> list[LayerInput]:
    """Of every spiking convolution."""
    found = []
    for op in program.ops:
        if isinstance(op, SpikeConv):
            kind, stored = program.value(op.input).kind, env[op.input]
            per_step = interpret.decode(stored, program.time_steps) \
                if kind == Kind.SPIKES else stored
            fired = per_step != 0
            tokens = np.prod(env[op.output].shape[-3:-1])
            found.append(LayerInput(op.output, kind, int(tokens) * op.weight.size,
                                    float(fired.mean()), float(fired.any(0).mean())))
    return found
