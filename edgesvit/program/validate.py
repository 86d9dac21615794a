"""Which programs make sense: kinds, shapes, constants, and the proofs that no sum overflows."""

import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.program.ops import (
    MAX_TIME_STEPS,
    Add,
    ChooseTokens,
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    Fire,
    Gather,
    HadamardAttention,
    Kind,
    MaxPool,
    Op,
    Program,
    PutBack,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    inputs,
    window_size,
)

MAX_MEMBRANE = 32767
MAX_LEVEL = {Kind.PIXELS: 255, Kind.SPIKES: 1, Kind.LEVELS: 255, Kind.LOGITS: 255,
             Kind.MEMBRANE: MAX_MEMBRANE, Kind.INDEX: 65534}
SIGNALS = (Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE)
SUM_LIMIT = 1 << 29  # |accumulator|, |bias| and |threshold| stay below: v + acc fits int32
MOST_ROWS = 65280  # inputs of a neuron: kernels list them in 16 bits


def accumulator_range(weight: np.ndarray, bias: np.ndarray, max_level: int
                      ) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest accumulator of each output channel over all inputs, int64 [C] each."""
    wide = weight.astype(np.int64)
    low = bias - max_level * np.maximum(-wide, 0).sum(0)
    high = bias + max_level * np.maximum(wide, 0).sum(0)
    return low, high


def int16_certificate(weight: np.ndarray, bias: np.ndarray, threshold: np.ndarray | None,
                      max_level: int) -> np.ndarray:
    """bool [C]: channels whose whole computation fits int16 for every input.

    Accumulation modulo 2**16 is exact when the final sum fits, whatever the order; the membrane
    lies between 0 and the accumulators, so it fits too. Thresholds, if any, must be comparable.
    """
    low, high = accumulator_range(weight, bias, max_level)
    certified = (low >= -32768) & (high <= 32767)
    if threshold is not None:
        certified &= (np.abs(threshold) <= 32767).reshape(-1, weight.shape[1]).all(0)
    return certified


def validate(program: Program) -> Program:
    """Return `program`; EdgesvitError saying which operator is wrong and why otherwise."""
    _require(1 <= program.time_steps <= MAX_TIME_STEPS, "program",
             f"{program.time_steps} time steps, a spike code byte holds 1 to {MAX_TIME_STEPS}")
    _require(len(program.ops) > 0 and program.input.kind in (Kind.PIXELS, Kind.LEVELS), "program",
             "needs a first value of pixels or levels and at least one operator")
    _require(len({v.name for v in program.values}) == len(program.values), "program",
             "two values share a name")
    for value in program.values:
        top = MAX_LEVEL[value.kind]
        lowest = top if value.kind in (Kind.PIXELS, Kind.SPIKES) else 1
        _require(lowest <= value.max_level <= top, value.name,
                 f"max_level {value.max_level} is not {lowest} to {top}")
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
            _check_conv(op, sources, out, op.kernel**2 * sources[0].shape[2])
        case SpikeConv():
            _check_window(op, sources[0], out, (Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE))
            _check_conv(op, sources, out, op.kernel**2 * sources[0].shape[2])
            _require(sources[0].kind != Kind.MEMBRANE
                     or (op.kernel, op.stride, op.pad, op.pool) == (1, 1, 0, 0),
                     _name(op), "on membranes a convolution is point-wise")
            proved = int16_certificate(op.weight, op.bias, op.threshold, sources[0].max_level)
            _require(not np.any(op.certified & ~proved), _name(op), "a false int16 certificate")
        case DepthwiseConv():
            _check_window(op, sources[0], out, (Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE))
            _check_conv(op, sources, out, op.kernel**2)
            _require(out.shape[2] == sources[0].shape[2], _name(op), "changes the channels")
        case Fire():
            _check_fire(op, sources[0], out)
        case MaxPool():
            _check_window(op, sources[0], out, (Kind.SPIKES,))
            _require(out.kind == Kind.SPIKES, _name(op), "gives spikes")
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
        case HadamardAttention():
            _check_hadamard_attention(op, sources, out)
        case ChooseTokens():
            _check_choice(op, sources[0], out)
        case Gather() | PutBack():
            _check_moved(op, sources, out)
        case Classify():
            _check_classify(op, sources, out, program)


def _check_window(op: Conv | MaxPool, source: Value, out: Value, kinds: tuple[Kind, ...]) -> None:
    _require(source.kind in kinds, _name(op), f"reads {source.kind.name.lower()}")
    _require(1 <= op.kernel <= 16 and 1 <= op.stride <= 16 and 0 <= op.pad < op.kernel,
             _name(op), "kernel and stride are 1 to 16, pad is less than the kernel")
    _require(min(source.shape[:2]) + 2 * op.pad >= op.kernel, _name(op), "kernel exceeds the input")
    if isinstance(op, EncodeConv | SpikeConv):
        _require(0 <= op.pool <= 16 and 1 <= op.pool_stride <= 16, _name(op),
                 "pool is 0 to 16, its stride 1 to 16")
    size = tuple(window_size(op, n) for n in source.shape[:2])
    _require(size == out.shape[:2], _name(op), f"gives {size}, its output says {out.shape[:2]}")


def _check_conv(op: Conv, sources: list[Value], out: Value, taps: int) -> None:
    channels = out.shape[2]
    _require(op.weight.shape == (taps, channels) and op.weight.dtype == np.int8,
             _name(op), f"weight must be int8 {(taps, channels)}, is {op.weight.shape}")
    _require(taps <= MOST_ROWS, _name(op), f"more than {MOST_ROWS} inputs to one neuron")
    _check_bits(op)
    _check_constant(op, op.bias, (channels,))
    # The bound without looking at weights, so that the C loader can check it in O(1).
    _require(taps * 128 * sources[0].max_level < SUM_LIMIT, _name(op),
             "the accumulator may reach 2**29")
    _check_following(op, sources[1:], out)


def _check_bits(op: Conv | Classify) -> None:
    top = 1 << (op.weight_bits - 1) if 2 <= op.weight_bits <= 8 else 0
    _require(top > 0 and -top <= op.weight.min(initial=0) and op.weight.max(initial=0) < top,
             _name(op), f"weights do not fit {op.weight_bits} bits, or bits are not 2 to 8")


def _check_following(op: Conv, streams: list[Value], out: Value) -> None:
    if out.kind != Kind.MEMBRANE:
        _require(op.scale is None and not op.stream, _name(op), "only membranes have a scale")
        _check_neuron(op, out)
        return
    _require(op.threshold is None and 1 <= op.shift <= 62, _name(op),
             "a membrane has no threshold and a shift of 1 to 62")
    _require(op.scale is not None and op.scale.shape == (out.shape[2],)
             and op.scale.dtype == np.int32 and op.scale.min() >= 0, _name(op),
             "scale must be int32, 0 or more, one a channel")
    for stream in streams:
        _require(stream.kind == Kind.MEMBRANE and stream.shape == out.shape, _name(op),
                 "adds to a stream of another kind or shape")


def _check_neuron(op: Conv | Fire, out: Value) -> None:
    _require(out.kind in (Kind.SPIKES, Kind.LEVELS), _name(op), "gives spikes, levels or membranes")
    shape = (out.shape[2],) if out.kind == Kind.SPIKES else (out.max_level, out.shape[2])
    _require(op.threshold is not None, _name(op), "a neuron needs a threshold")
    _check_constant(op, op.threshold, shape)


def _check_constant(op: Conv | Fire, constant: np.ndarray, shape: tuple[int, ...]) -> None:
    _require(constant.shape == shape and constant.dtype == np.int32, _name(op),
             f"a bias or threshold must be int32 {shape}, is {constant.shape}")
    _require(np.abs(constant.astype(np.int64)).max() < SUM_LIMIT, _name(op),
             "a bias or threshold is 2**29 or more")


def _check_fire(op: Fire, source: Value, out: Value) -> None:
    _require(source.kind == Kind.MEMBRANE, _name(op), "reads membranes")
    tokens = source.tokens if op.over_tokens else 1
    size = (1, 1) if op.over_tokens else source.shape[:2]
    _require(out.shape == (*size, source.shape[2]), _name(op), "shapes differ")
    _require(tokens * source.max_level < SUM_LIMIT, _name(op), "a sum may reach 2**29")
    _check_neuron(op, out)


def _check_attention(op: SelfAttention, sources: list[Value], out: Value) -> None:
    query, key, value = sources
    _require(query.kind in (Kind.SPIKES, Kind.LEVELS)
             and all(v.kind == query.kind for v in (key, value, out)), _name(op),
             "works on spikes only, or on levels only")
    _require(query.shape == key.shape and value.shape == out.shape
             and query.shape[:2] == value.shape[:2], _name(op), "shapes differ")
    _require(op.heads >= 1 and query.shape[2] % op.heads == 0 and value.shape[2] % op.heads == 0,
             _name(op), "channels are no multiple of the heads")
    levels = len(op.level_thresholds)
    _require(levels == (out.max_level if out.kind == Kind.LEVELS else 0), _name(op),
             f"{levels} level thresholds")
    counts = query.tokens * key.max_level * value.max_level
    largest = counts * query.max_level * (query.shape[2] // op.heads)
    _require(counts <= 65535 and op.shift <= 16 and largest << op.shift < SUM_LIMIT
             and all(abs(t) < SUM_LIMIT for t in (op.threshold, *op.level_thresholds)),
             _name(op), "the accumulator may reach 2**29")


def _check_hadamard_attention(op: HadamardAttention, sources: list[Value], out: Value) -> None:
    _require(all(v.kind == Kind.SPIKES and v.shape == out.shape for v in (*sources, out)),
             _name(op), "works on spikes of one shape")
    _require(op.heads == 0 or out.shape[2] % op.heads == 0, _name(op),
             "channels are no multiple of the heads")
    # At most 65535 tokens << 12 stays below 2**29.
    _require(op.shift <= 12 and out.tokens <= 65535 and abs(op.threshold) < SUM_LIMIT, _name(op),
             "the accumulator may reach 2**29")


def _check_token_attention(op: TokenAttention, sources: list[Value], out: Value) -> None:
    query, key = sources
    _require(query.kind == key.kind == out.kind == Kind.SPIKES, _name(op), "works on spikes only")
    _require(query.shape == key.shape == out.shape, _name(op), "shapes differ")
    _require(op.heads >= 1 and query.shape[2] % op.heads == 0, _name(op),
             "channels are no multiple of the heads")
    # At most 65535 channels << 12 stays below 2**29, whatever the shape.
    _require(op.shift <= 12 and query.tokens <= 65535 and abs(op.threshold) < SUM_LIMIT,
             _name(op), "the accumulator may reach 2**29")


def _check_classify(op: Classify, sources: list[Value], out: Value, program: Program) -> None:
    source = sources[0]
    _require(source.kind in (Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE) and out.kind == Kind.LOGITS,
             _name(op), "takes spikes, levels or membranes and gives logits")
    _require(all(s.kind == Kind.LOGITS and s.shape == out.shape for s in sources[1:]), _name(op),
             "adds to scores of another kind or shape")
    _require(0 <= op.shift <= 31, _name(op), "shift is not 0 to 31")
    _require(out.shape[:2] == (1, 1) and op.weight.shape == (source.shape[2], out.shape[2])
             and op.weight.dtype == np.int8 and op.bias.dtype == np.int32
             and op.bias.shape == (out.shape[2],), _name(op), "weight or bias shape")
    _check_bits(op)
    _require(_largest_logit(op, program) < 1 << 31, _name(op), "a logit may exceed int32")
    # The C loader's bound, which trusts no declared max_level.
    highest = 32768 if source.kind == Kind.MEMBRANE else 255
    _require(source.tokens * MAX_TIME_STEPS * highest < SUM_LIMIT, _name(op),
             "a channel sum may reach 2**29")


def _largest_logit(op: Classify, program: Program) -> int:
    """A bound of the scores' magnitudes, those that they are added to included."""
    source = program.value(op.input)
    each = program.time_steps * source.tokens * source.max_level
    low, high = accumulator_range(op.weight, np.zeros_like(op.bias), each)
    if source.kind == Kind.MEMBRANE:  # of either sign
        low, high = low - high, high - low
    low, high = (low >> op.shift) + op.bias, (high >> op.shift) + 1 + op.bias
    first = sum(_largest_logit(other, program) for other in program.ops
                if isinstance(other, Classify) and op.stream and other.output == op.stream)
    return int(max(-low.min(), high.max())) + first


def _check_choice(op: ChooseTokens, source: Value, out: Value) -> None:
    _require(source.kind in SIGNALS and 2 <= source.tokens <= 65535, _name(op),
             "chooses from 2 to 65535 tokens of spikes, levels or membranes")
    _require(out.kind == Kind.INDEX and out.max_level == source.tokens - 1
             and out.shape == (1, out.shape[1], 1) and 1 <= out.shape[1] < source.tokens,
             _name(op), "gives the index [1, K, 1] of fewer tokens, up to the last one")
    _require(1 <= op.window <= 15 and op.window % 2 == 1, _name(op), "the window is odd, 1 to 15")
    _require(0 <= op.spatial <= 15 and 0 <= op.temporal <= 15 and op.spatial + op.temporal > 0,
             _name(op), "the weights of the scores are 0 to 15, not both 0")
    scaled = source.kind == Kind.MEMBRANE
    _require((op.scale is not None) == scaled, _name(op), "membranes have a scale, others none")
    if scaled:
        _require(op.scale.shape == (source.shape[2],) and op.scale.dtype == np.int32
                 and op.scale.min() >= 0 and op.scale.max() <= 32767, _name(op),
                 "scale must be int32, 0 to 32767, one a channel")
    # The C loader's bounds, which trust no declared max_level.
    highest = {Kind.SPIKES: 1, Kind.LEVELS: 255, Kind.MEMBRANE: 32768}[source.kind]
    largest = MAX_TIME_STEPS * op.window**2 * highest
    _require(largest**2 < (1 << 62) // source.shape[2]
             and 2 * MAX_TIME_STEPS * highest * source.shape[2] < 1 << 32, _name(op),
             "sums of the scores may exceed 62 bits")


def _check_moved(op: Gather | PutBack, sources: list[Value], out: Value) -> None:
    source, index, *branch = sources
    few = branch[0] if branch else out
    _require(source.kind in SIGNALS and few.kind == out.kind == source.kind
             and index.kind == Kind.INDEX, _name(op), "moves tokens of one kind by an index")
    _require(few.shape == (1, index.shape[1], source.shape[2])
             and (not branch or out.shape == source.shape), _name(op), "shapes differ")
    _require(index.max_level < source.tokens, _name(op), "the index is of a larger map")
    _require(out.max_level >= max(v.max_level for v in (source, *branch)), _name(op),
             "max_level is below that of what it holds")
