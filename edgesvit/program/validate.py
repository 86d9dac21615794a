"""Which programs make sense: kinds, shapes, constants, and the proofs that no sum overflows."""

import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.program.ops import (
    MAX_TIME_STEPS,
    Add,
    Classify,
    EncodeConv,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    inputs,
    window_size,
)

SUM_LIMIT = 1 << 29  # |accumulator|, |bias| and |threshold| stay below: v + acc fits int32


def accumulator_range(weight: np.ndarray, bias: np.ndarray, max_level: int
                      ) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest accumulator of each output channel over all inputs, int64 [C] each."""
    wide = weight.astype(np.int64)
    low = bias - max_level * np.maximum(-wide, 0).sum(0)
    high = bias + max_level * np.maximum(wide, 0).sum(0)
    return low, high


def int16_certificate(weight: np.ndarray, bias: np.ndarray, threshold: np.ndarray,
                      max_level: int) -> np.ndarray:
    """bool [C]: channels whose whole computation fits int16 for every input.

    Accumulation modulo 2**16 is exact when the final sum fits, whatever the order; the membrane
    lies between 0 and the accumulators, so it fits too. The threshold must be comparable.
    """
    low, high = accumulator_range(weight, bias, max_level)
    return (low >= -32768) & (high <= 32767) & (np.abs(threshold) <= 32767)


def validate(program: Program) -> Program:
    """Return `program`; EdgesvitError saying which operator is wrong and why otherwise."""
    _require(1 <= program.time_steps <= MAX_TIME_STEPS, "program",
             f"{program.time_steps} time steps, a spike code byte holds 1 to {MAX_TIME_STEPS}")
    _require(len(program.ops) > 0 and program.input.kind == Kind.PIXELS, "program",
             "needs a first value of pixels and at least one operator")
    _require(len({v.name for v in program.values}) == len(program.values), "program",
             "two values share a name")
    written = {program.input.name}
    for op in program.ops:
        for name in inputs(op):
            _require(name in written, _name(op), f"reads {name!r} before it is written")
        _require(op.output not in written, _name(op), f"writes {op.output!r} a second time")
        written.add(op.output)
        _check_op(op, [program.value(n) for n in inputs(op)], program.value(op.output), program)
    _require(program.output.kind == Kind.LOGITS, "program", "the last operator writes no logits")
    _require(len(written) == len(program.values), "program", "a value is never written")
    return program


def _require(condition: bool, where: str, why: str) -> None:
    if not condition:
        raise EdgesvitError(f"spike program: {where}: {why}")


def _name(op: Op) -> str:
    return f"{type(op).__name__} -> {op.output}"


def _check_op(op: Op, sources: list[Value], out: Value, program: Program) -> None:
    match op:
        case EncodeConv():
            _check_window(op, sources[0], out, (Kind.PIXELS,))
            _require(op.pad_pixel.shape == (sources[0].shape[2],), _name(op), "pad_pixel shape")
            _check_conv(op, sources[0], out, 255)
        case SpikeConv():
            _check_window(op, sources[0], out, (Kind.SPIKES, Kind.LEVELS))
            _check_conv(op, sources[0], out, sources[0].max_level)
            proved = int16_certificate(op.weight, op.bias, op.threshold, sources[0].max_level)
            _require(not np.any(op.certified & ~proved), _name(op), "a false int16 certificate")
        case MaxPool():
            _check_window(op, sources[0], out, (Kind.SPIKES,))
            _require(out.shape[2] == sources[0].shape[2], _name(op), "changes the channels")
        case Add():
            _require(sources[0].kind in (Kind.SPIKES, Kind.LEVELS)
                     and sources[1].kind == Kind.SPIKES and out.kind == Kind.LEVELS,
                     _name(op), "adds spikes to spikes or levels and gives levels")
            _require(sources[0].shape == sources[1].shape == out.shape, _name(op), "shapes differ")
            _require(out.max_level == sources[0].max_level + 1 <= 255, _name(op),
                     "max_level is the input's plus one, at most 255")
        case SelfAttention():
            _check_attention(op, sources, out)
        case TokenAttention():
            _check_token_attention(op, sources, out)
        case Classify():
            _check_classify(op, sources[0], out, program)


def _check_window(op: EncodeConv | SpikeConv | MaxPool, source: Value, out: Value,
                  kinds: tuple[Kind, ...]) -> None:
    _require(source.kind in kinds and out.kind == Kind.SPIKES, _name(op), "kinds do not fit")
    _require(1 <= op.kernel <= 16 and 1 <= op.stride <= 16 and 0 <= op.pad < op.kernel,
             _name(op), "kernel and stride are 1 to 16, pad is less than the kernel")
    _require(min(source.shape[:2]) + 2 * op.pad >= op.kernel, _name(op), "kernel exceeds the input")
    if not isinstance(op, MaxPool):
        _require(0 <= op.pool <= 16 and 1 <= op.pool_stride <= 16, _name(op),
                 "pool is 0 to 16, its stride 1 to 16")
    size = tuple(window_size(op, n) for n in source.shape[:2])
    _require(size == out.shape[:2], _name(op), f"gives {size}, its output says {out.shape[:2]}")


def _check_conv(op: EncodeConv | SpikeConv, source: Value, out: Value, max_level: int) -> None:
    taps, channels = op.kernel**2 * source.shape[2], out.shape[2]
    _require(op.weight.shape == (taps, channels) and op.weight.dtype == np.int8,
             _name(op), f"weight must be int8 {(taps, channels)}, is {op.weight.shape}")
    _require(taps <= 65535, _name(op), "more than 65535 inputs to one neuron")
    for constant in (op.bias, op.threshold):
        _require(constant.shape == (channels,) and constant.dtype == np.int32, _name(op),
                 "bias and threshold must be int32, one a channel")
        _require(np.abs(constant.astype(np.int64)).max() < SUM_LIMIT, _name(op),
                 "bias or threshold is 2**29 or more")
    # The bound without looking at weights, so that the C loader can check it in O(1).
    _require(taps * 128 * max_level < SUM_LIMIT, _name(op), "the accumulator may reach 2**29")


def _check_attention(op: SelfAttention, sources: list[Value], out: Value) -> None:
    query, key, value = sources
    _require(all(v.kind == Kind.SPIKES for v in (*sources, out)), _name(op), "works on spikes only")
    _require(query.shape == key.shape and value.shape == out.shape
             and query.shape[:2] == value.shape[:2], _name(op), "shapes differ")
    _require(op.heads >= 1 and query.shape[2] % op.heads == 0 and value.shape[2] % op.heads == 0,
             _name(op), "channels are no multiple of the heads")
    largest = query.tokens * (query.shape[2] // op.heads)
    _require(query.tokens <= 65535 and op.shift <= 16 and largest << op.shift < SUM_LIMIT
             and abs(op.threshold) < SUM_LIMIT, _name(op), "the accumulator may reach 2**29")


def _check_token_attention(op: TokenAttention, sources: list[Value], out: Value) -> None:
    query, key = sources
    _require(query.kind == key.kind == out.kind == Kind.SPIKES, _name(op), "works on spikes only")
    _require(query.shape == key.shape == out.shape, _name(op), "shapes differ")
    _require(op.heads >= 1 and query.shape[2] % op.heads == 0, _name(op),
             "channels are no multiple of the heads")
    # At most 65535 channels << 12 stays below 2**29, whatever the shape.
    _require(op.shift <= 12 and query.tokens <= 65535 and abs(op.threshold) < SUM_LIMIT,
             _name(op), "the accumulator may reach 2**29")


def _check_classify(op: Classify, source: Value, out: Value, program: Program) -> None:
    _require(source.kind in (Kind.SPIKES, Kind.LEVELS) and out.kind == Kind.LOGITS, _name(op),
             "takes spikes or levels and gives logits")
    _require(out.shape[:2] == (1, 1) and op.weight.shape == (source.shape[2], out.shape[2])
             and op.weight.dtype == np.int8 and op.bias.dtype == np.int32
             and op.bias.shape == (out.shape[2],), _name(op), "weight or bias shape")
    largest_sum = program.time_steps * source.tokens * source.max_level
    low, high = accumulator_range(op.weight, op.bias, largest_sum)
    _require(max(-low.min(), high.max()) < 1 << 31, _name(op), "a logit may exceed int32")
    # The C loader's bound, which trusts no declared max_level.
    _require(source.tokens * MAX_TIME_STEPS * 255 < SUM_LIMIT, _name(op),
             "a channel sum may reach 2**29")
