"""The NumPy interpreter: the definition of what a spike program computes.

Every other implementation (C kernels on any machine, other runtimes) gives the same integers.
All arithmetic is exact; nothing saturates and nothing wraps, because `validate` has proved that
every sum fits. Numbers round in two places only, the halving in `lif` and `rescale`, and only
membranes clamp.
"""

import numpy as np

from edgesvit.program.ops import (
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
    conv_size,
)
from edgesvit.program.tokens import chosen, token_scores


def lif(current: np.ndarray, threshold: np.ndarray | int) -> np.ndarray:
    """Leaky integrate-and-fire, tau = 2 with decayed input, hard reset: bool [T, ...].

    Per step: `v = floor((v + current[t]) / 2)`, a spike where `v >= threshold` (a tie fires), and
    the membrane of a neuron that fired is 0 for the next step. v starts at 0. The halving rounds
    towards minus infinity, as an arithmetic shift right does: (-1) >> 1 is -1.
    """
    membrane = np.zeros_like(current[0])
    spikes = np.zeros(current.shape, bool)
    for t, step in enumerate(current):
        membrane = (membrane + step) >> 1
        spikes[t] = membrane >= threshold
        membrane = np.where(spikes[t], 0, membrane)
    return spikes


def levels_reached(current: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The integer neuron: how many of `thresholds` [D, ...] each current [T, ...] reaches."""
    return sum((current >= threshold).astype(np.uint8) for threshold in thresholds)


def fire(kind: Kind, current: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Currents [T, H, W, C] through LIF to codes, or through the integer neuron to levels."""
    if kind == Kind.SPIKES:
        return encode(lif(current, threshold))
    return levels_reached(current, threshold)


def rescale(current: np.ndarray, scale: np.ndarray, shift: int) -> np.ndarray:
    """`current * scale / 2**shift`, rounded half up."""
    return (current.astype(np.int64) * scale.astype(np.int64) + (1 << (shift - 1))) >> shift


def follow(op: Conv, out: Value, current: np.ndarray, stream: np.ndarray | None) -> np.ndarray:
    """What becomes of a convolution's currents [T, H, W, C]: see Conv."""
    if out.kind != Kind.MEMBRANE:
        return fire(out.kind, current, op.threshold)
    membrane = rescale(current, op.scale, op.shift) + (0 if stream is None else stream)
    return np.clip(membrane, -out.max_level, out.max_level).astype(np.int16)


def encode(spikes: np.ndarray) -> np.ndarray:
    """bool [T, ...] -> code bytes uint8 [...], bit t = step t."""
    return np.bitwise_or.reduce(
        [step.astype(np.uint8) << t for t, step in enumerate(spikes)]).astype(np.uint8)


def decode(codes: np.ndarray, time_steps: int) -> np.ndarray:
    """Code bytes [...] -> int64 [T, ...] of 0 and 1."""
    return np.stack([(codes >> t) & 1 for t in range(time_steps)]).astype(np.int64)


def patches(image: np.ndarray, op: Conv | MaxPool,
            fill: np.ndarray | int = 0) -> np.ndarray:
    """[H, W, C] -> [H_out, W_out, kernel * kernel, C]; taps outside the image read `fill`."""
    height, width, channels = image.shape
    padded = np.empty((height + 2 * op.pad, width + 2 * op.pad, channels), np.int64)
    padded[:] = fill
    padded[op.pad:op.pad + height, op.pad:op.pad + width] = image
    out_h = conv_size(height, op.kernel, op.stride, op.pad)
    out_w = conv_size(width, op.kernel, op.stride, op.pad)
    taps = [padded[y:y + op.stride * (out_h - 1) + 1:op.stride,
                   x:x + op.stride * (out_w - 1) + 1:op.stride]
            for y in range(op.kernel) for x in range(op.kernel)]
    return np.stack(taps, axis=2)


def _matmul(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Exact integer product; float64 holds every partial sum below 2**53 and runs on BLAS."""
    return np.rint(x.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)


def pool_current(op: EncodeConv | SpikeConv, current: np.ndarray) -> np.ndarray:
    """Max-pool currents [T, H, W, C]; positions outside do not take part."""
    if not op.pool:
        return current
    window = MaxPool(op.input, op.output, op.pool, op.pool_stride, op.pool // 2)
    lowest = np.iinfo(np.int64).min
    return np.stack([patches(step, window, lowest).max(2) for step in current])


def encode_conv(op: EncodeConv, pixels: np.ndarray, time_steps: int) -> np.ndarray:
    """uint8 [H, W, C_in] -> currents [T, H_out, W_out, C_out], the same at every step."""
    taps = patches(pixels, op, op.pad_pixel)
    current = _matmul(taps.reshape(*taps.shape[:2], -1), op.weight) + op.bias
    current = pool_current(op, current[None])
    return np.broadcast_to(current, (time_steps, *current.shape[1:]))


def spike_conv(op: SpikeConv, levels: np.ndarray) -> np.ndarray:
    """Levels, membranes or decoded spikes [T, H, W, C_in] -> currents [T, H_out, W_out, C_out]."""
    taps = np.stack([patches(step, op) for step in levels])
    current = _matmul(taps.reshape(*taps.shape[:3], -1), op.weight) + op.bias
    return pool_current(op, current)


def depthwise_conv(op: DepthwiseConv, levels: np.ndarray) -> np.ndarray:
    """Levels, membranes or decoded spikes [T, H, W, C] -> currents [T, H_out, W_out, C]."""
    weight = op.weight.astype(np.int64)
    return np.stack([(patches(step, op) * weight).sum(2) for step in levels]) + op.bias


def max_pool(op: MaxPool, codes: np.ndarray) -> np.ndarray:
    """Codes [H, W, C] -> codes [H_out, W_out, C]: OR over the window, nothing outside."""
    return np.bitwise_or.reduce(patches(codes, op), axis=2).astype(np.uint8)


def self_attention(op: SelfAttention, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """q, k [T, H, W, heads * d_qk], v [T, H, W, heads * d_v] -> codes or levels [.., heads * d_v].

    current = ((q k^T) v) << shift. With shift >= T the halvings of `lif` lose no bit, so ties are
    those of exact arithmetic. q (k^T v) gives the same integers.
    """
    steps, height, width, _ = q.shape

    def heads(x: np.ndarray) -> np.ndarray:  # -> [T, heads, N, d]
        return x.reshape(steps, height * width, op.heads, -1).swapaxes(1, 2)

    mixed = _matmul(heads(q), _matmul(heads(k).swapaxes(2, 3), heads(v)))
    current = mixed.swapaxes(1, 2).reshape(steps, height, width, -1) << op.shift
    if op.level_thresholds:
        return levels_reached(current, np.array(op.level_thresholds))
    return encode(lif(current, op.threshold))


def hadamard_attention(op: HadamardAttention, q: np.ndarray, k: np.ndarray, v: np.ndarray
                       ) -> np.ndarray:
    """q, k, v [T, H, W, C] of 0/1 -> codes [H, W, C]: q where its channel's neuron fires.

    current = (sum of k * v over the tokens) << shift, one neuron per channel. With heads, k * v and
    the result are spread first.
    """
    both = spread(k * v, op.heads)
    passes = lif(both.sum((1, 2), keepdims=True) << op.shift, op.threshold)  # [T, 1, 1, C]
    return encode(spread(q * passes, op.heads).astype(bool))


def spread(spikes: np.ndarray, heads: int) -> np.ndarray:
    """[T, H, W, C] of 0/1: each becomes the largest of its 3x3 neighbours among the tokens (in
    raster order) and the channels of its head. Unchanged without heads.
    """
    if not heads:
        return spikes
    steps, height, width, channels = spikes.shape
    grid = spikes.reshape(steps, height * width, heads, channels // heads)
    padded = np.pad(grid, ((0, 0), (1, 1), (0, 0), (1, 1)))
    tokens = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    most = np.maximum(np.maximum(tokens[..., :-2], tokens[..., 1:-1]), tokens[..., 2:])
    return most.reshape(spikes.shape)


def token_attention(op: TokenAttention, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """q, k [T, H, W, C] of 0/1 -> codes [H, W, C]: keys of the tokens whose neuron fires.

    current = (sum of q over a head's channels) << shift, one neuron per token and head.
    """
    grouped = q.reshape(*q.shape[:3], op.heads, -1)
    passes = lif(grouped.sum(-1) << op.shift, op.threshold)  # [T, H, W, heads]
    return encode(k.astype(bool) & np.repeat(passes, grouped.shape[-1], axis=-1))


def classify(op: Classify, levels: np.ndarray, stream: np.ndarray | int = 0) -> np.ndarray:
    """Levels, membranes or decoded spikes [T, H, W, C] -> logits int32 [1, 1, classes].

    logits = stream + bias + (sum over t, h, w of levels, times weight) / 2**shift, rounded half up:
    the mean's divisor T*H*W is part of the logits' scale.
    """
    product = _matmul(levels.sum((0, 1, 2)), op.weight)
    scores = product + (1 << op.shift >> 1) >> op.shift
    return (stream + (scores + op.bias)[None, None]).astype(np.int32)


def choose_tokens(op: ChooseTokens, levels: np.ndarray, count: int) -> np.ndarray:
    """Levels, membranes or decoded spikes [T, H, W, C] -> the best tokens uint16 [1, count, 1].

    Membranes are brought to one unit first: (membrane * scale) >> 15.
    """
    features = levels if op.scale is None else levels * op.scale >> 15
    scores = token_scores(features, op.window, op.spatial, op.temporal)
    return chosen(scores, count)[None, :, None]


def gather(stored: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Tokens `index` [1, K, 1] of a map [..., H, W, C] -> [..., 1, K, C]."""
    tokens = stored.reshape(*stored.shape[:-3], 1, -1, stored.shape[-1])
    return tokens[..., index.reshape(-1), :]


def put_back(stored: np.ndarray, index: np.ndarray, branch: np.ndarray) -> np.ndarray:
    """A map [..., H, W, C] with tokens `index` replaced by `branch` [..., 1, K, C]."""
    tokens = stored.reshape(*stored.shape[:-3], 1, -1, stored.shape[-1]).copy()
    tokens[..., index.reshape(-1), :] = branch
    return tokens.reshape(stored.shape)


def step(op: Op, program: Program, env: dict[str, np.ndarray]) -> np.ndarray:
    """What `op` writes, given the stored tensors `env` of the values it reads."""

    def levels(name: str) -> np.ndarray:
        stored = env[name]
        if program.value(name).kind == Kind.SPIKES:
            return decode(stored, program.time_steps)
        return stored.astype(np.int64)

    def following(conv: Conv, current: np.ndarray) -> np.ndarray:
        stream = levels(conv.stream) if conv.stream else None
        return follow(conv, program.value(conv.output), current, stream)

    match op:
        case EncodeConv():
            return following(op, encode_conv(op, env[op.input], program.time_steps))
        case SpikeConv():
            return following(op, spike_conv(op, levels(op.input)))
        case DepthwiseConv():
            return following(op, depthwise_conv(op, levels(op.input)))
        case Fire():
            current = levels(op.input)
            if op.over_tokens:
                current = current.sum((1, 2), keepdims=True)
            return fire(program.value(op.output).kind, current, op.threshold)
        case MaxPool():
            return max_pool(op, env[op.input])
        case Add():
            return (levels(op.input) + levels(op.branch)).astype(np.uint8)
        case SelfAttention():
            return self_attention(op, levels(op.query), levels(op.key), levels(op.value))
        case TokenAttention():
            return token_attention(op, levels(op.query), levels(op.key))
        case HadamardAttention():
            return hadamard_attention(op, *(levels(name) for name in (op.query, op.key, op.value)))
        case ChooseTokens():
            return choose_tokens(op, levels(op.input), program.value(op.output).tokens)
        case Gather():
            return gather(env[op.input], env[op.index])
        case PutBack():
            return put_back(env[op.input], env[op.index], env[op.branch])
        case Classify():
            return classify(op, levels(op.input), levels(op.stream) if op.stream else 0)


def trace(program: Program, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every stored tensor of one run, by value name.

    `image` is uint8 [H, W, C], or [T, H, W, C] where the program takes event frames.
    """
    shape = program.input.shape
    if program.input.kind == Kind.LEVELS:
        shape = (program.time_steps, *shape)
    env = {program.input.name: np.asarray(image, np.uint8).reshape(shape)}
    for op in program.ops:
        env[op.output] = step(op, program, env)
    return env


def run(program: Program, image: np.ndarray) -> np.ndarray:
    """Logits int32 [classes] of one input, as in `trace`."""
    return trace(program, image)[program.output.name].reshape(-1)
