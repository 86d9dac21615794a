"""The spike program: a short list of integer operators over integer tensors.

Everything here only describes. `interpret` says what the operators compute, `validate` which
descriptions make sense, `plan` where tensors live, `file` how a program is stored.

Notation: T time steps, H x W tokens or pixels, C channels. Tensors are channels-last.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

MOST_PATTERNS = 6  # higher levels are not taken apart into firing patterns
MAX_TIME_STEPS = 8  # a spike code is one byte: bit t is step t


class Kind(IntEnum):
    """What the numbers of a tensor mean, and how they are stored."""

    PIXELS = 0  # uint8 [H, W, C], the image as the camera gives it
    SPIKES = 1  # uint8 [H, W, C], a code byte a neuron: bit t is the spike of step t
    LEVELS = 2  # uint8 [T, H, W, C], sums of spikes on the residual stream, 0..max_level
    LOGITS = 3  # int32 [1, 1, C], class scores
    MEMBRANE = 4  # int16 [T, H, W, C], real numbers in units of their channel's scale
    INDEX = 5  # uint16 [1, K, 1], tokens of another map, in ascending order


@dataclass(frozen=True)
class Value:
    """A tensor between operators; `max_level` bounds every magnitude (PIXELS 255, SPIKES 1).

    Of an INDEX it is the last token of the map that is chosen from.
    """

    name: str
    kind: Kind
    shape: tuple[int, int, int]  # H, W, C
    max_level: int = 1

    @property
    def tokens(self) -> int:
        """H * W."""
        return self.shape[0] * self.shape[1]

    def stored_bytes(self, time_steps: int) -> int:
        """Bytes this tensor takes in the arena."""
        elements = self.tokens * self.shape[2]
        size = {Kind.LEVELS: time_steps, Kind.LOGITS: 4, Kind.MEMBRANE: 2 * time_steps,
                Kind.INDEX: 2}
        return elements * size.get(self.kind, 1)


@dataclass(frozen=True, eq=False)
class Conv:
    """What all convolutions share: a window, integer weights, and what becomes of the currents.

    The kind of the output value decides what follows the sums (currents) of a channel:
    SPIKES: LIF with `threshold` int32 [C]. LEVELS: the integer neuron of `threshold` int32 [D, C],
    D the output's max_level: the level is the number of thresholds reached. MEMBRANE:
    `(current * scale + 2**(shift - 1)) >> shift`, added to the membrane `stream` if there is one
    and clamped to the output's max_level.
    """

    input: str
    output: str
    kernel: int
    stride: int
    pad: int
    weight: np.ndarray  # int8 [K, C_out], within weight_bits
    bias: np.ndarray  # int32 [C_out]
    threshold: np.ndarray | None = None
    scale: np.ndarray | None = None  # int32 [C_out], 0 or more
    shift: int = 0  # 1 to 62 with `scale`
    stream: str = ""
    weight_bits: int = 8  # 2 to 8: how many the file stores for each weight

    @property
    def channels(self) -> int:
        """C_out."""
        return self.weight.shape[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodeConv(Conv):
    """First convolution on pixels: the currents are computed once for all T steps.

    K = kernel * kernel * C_in, tap-major, then input channel. A tap outside the image reads
    `pad_pixel` of its channel: the grey level that normalisation maps to zero. `pool` as in
    SpikeConv.
    """

    pad_pixel: np.ndarray  # uint8 [C_in]
    pool: int = 0
    pool_stride: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class SpikeConv(Conv):
    """Convolution (kernel 1: linear layer) of spikes or levels; of membranes with kernel 1 only.

    K as in EncodeConv. `certified[c]` promises that the accumulator of channel c fits int16
    whatever the input (never so for membranes). With `pool` > 0 the currents are max-pooled before
    what follows them, over windows of pool x pool, `pool_stride` apart, padded by pool // 2
    (QKFormer pools there; Spikformer pools spikes).
    """

    certified: np.ndarray  # bool [C_out]
    pool: int = 0
    pool_stride: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv(Conv):
    """Every channel of spikes, levels or membranes convolved with its own window: K = kernel^2."""


@dataclass(frozen=True, eq=False)
class Fire:
    """Neurons on a membrane stream: LIF gives SPIKES, the integer neuron LEVELS (as in Conv).

    With `over_tokens` the current is the sum over all tokens and the output has one token.
    """

    input: str
    output: str
    threshold: np.ndarray  # int32 [C], or [D, C]
    over_tokens: bool = False


@dataclass(frozen=True)
class MaxPool:
    """Max-pooling of spikes, which for 0/1 is a bitwise OR of code bytes."""

    input: str
    output: str
    kernel: int
    stride: int
    pad: int


@dataclass(frozen=True)
class Add:
    """Residual addition: levels (or spikes) `input` plus spikes `branch`."""

    input: str
    branch: str
    output: str


@dataclass(frozen=True)
class SelfAttention:
    """Spiking self-attention (q k^T) v per head and step, scaled by 2**shift, then a neuron.

    Spikes drive LIF with `threshold`; levels drive the integer neuron of `level_thresholds`.
    """

    query: str  # spikes or levels [H, W, heads * d_qk], the head is the slow index
    key: str  # the query's kind [H, W, heads * d_qk]
    value: str  # the query's kind [H, W, heads * d_v]
    output: str  # the query's kind [H, W, heads * d_v]
    heads: int
    shift: int
    threshold: int = 0
    level_thresholds: tuple[int, ...] = ()


@dataclass(frozen=True)
class HadamardAttention:
    """Spike-driven attention of SDT-V1: a channel's query spikes pass where its neuron fires.

    The neuron's current is the number of tokens at which key and value both fire, << shift. In the
    event form, which has `heads`, what both fire and what passes spread to the neighbours: the
    tokens before and behind (in raster order) and the channels beside within the head.
    """

    query: str  # spikes [H, W, C]
    key: str  # spikes [H, W, C]
    value: str  # spikes [H, W, C]
    output: str  # spikes [H, W, C]
    shift: int
    threshold: int
    heads: int = 0  # 0: nothing spreads


@dataclass(frozen=True)
class TokenAttention:
    """Token attention of QKFormer: per head and step, a token passes its key spikes on when the
    neuron of (sum of its query spikes) * 2**shift fires.
    """

    query: str  # spikes [H, W, C], the head is the slow index of C
    key: str  # spikes [H, W, C]
    output: str  # spikes [H, W, C]
    heads: int
    shift: int
    threshold: int


@dataclass(frozen=True, eq=False)
class Classify:
    """Sum over tokens and steps, then a linear layer: the scores of the classes.

    Sums of membranes are large: products are divided by 2**shift. A second classifier, of another
    value, adds its scores to those of the first one, its `stream`.
    """

    input: str
    output: str
    weight: np.ndarray  # int8 [C_in, classes], within weight_bits
    bias: np.ndarray  # int32 [classes]
    weight_bits: int = 8
    shift: int = 0
    stream: str = ""


@dataclass(frozen=True, eq=False)
class ChooseTokens:
    """Score every token and keep the K best, K being the tokens of the output.

    The score is `spatial` times a token's unlikeness to the `window` x `window` tokens around it
    plus `temporal` times its change from step to step: interpret.token_scores.
    """

    input: str  # spikes, levels or membranes [H, W, C], of two tokens or more
    output: str  # INDEX [1, K, 1]
    window: int  # odd
    spatial: int = 1  # 0 to 15, as `temporal`; one of them is not 0
    temporal: int = 1
    scale: np.ndarray | None = None  # of membranes int32 [C], 0 to 32767: one unit for all


@dataclass(frozen=True)
class Gather:
    """The tokens of `input` that `index` names."""

    input: str  # spikes, levels or membranes [H, W, C]
    index: str
    output: str  # the input's kind [1, K, C]


@dataclass(frozen=True)
class PutBack:
    """The map `input` with the tokens that `index` names replaced by those of `branch`."""

    input: str  # spikes, levels or membranes [H, W, C]
    index: str
    branch: str  # the input's kind [1, K, C]
    output: str  # the input's kind and shape


Op = (EncodeConv | SpikeConv | MaxPool | Add | SelfAttention | Classify | TokenAttention
      | DepthwiseConv | Fire | HadamardAttention | ChooseTokens | Gather | PutBack)


@dataclass(frozen=True, eq=False)
class Check:
    """One image and the logits every implementation must give for it."""

    image: np.ndarray  # uint8 [H, W, C], or event counts [T, H, W, C]
    logits: np.ndarray  # int32 [classes]


@dataclass(frozen=True, eq=False)
class Program:
    """A complete integer network: `values[0]` is the input, the last operator writes the logits.

    The input is an image (PIXELS), or T frames of event counts (LEVELS).
    """

    time_steps: int
    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    labels: tuple[str, ...] = ()
    check: Check | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def value(self, name: str) -> Value:
        """The value called `name` (KeyError when there is none)."""
        for value in self.values:
            if value.name == name:
                return value
        raise KeyError(name)

    @property
    def input(self) -> Value:
        """The image or the event frames."""
        return self.values[0]

    @property
    def output(self) -> Value:
        """The logits."""
        return self.value(self.ops[-1].output)


def inputs(op: Op) -> tuple[str, ...]:
    """The names of the values an operator reads, in the order of its fields."""
    match op:
        case Add():
            return (op.input, op.branch)
        case SelfAttention() | HadamardAttention():
            return (op.query, op.key, op.value)
        case TokenAttention():
            return (op.query, op.key)
        case Gather():
            return (op.input, op.index)
        case PutBack():
            return (op.input, op.index, op.branch)
        case Conv() | Classify() if op.stream:
            return (op.input, op.stream)
        case _:
            return (op.input,)


def conv_size(size: int, kernel: int, stride: int, pad: int) -> int:
    """Output length of a convolution or pooling along one axis."""
    return (size + 2 * pad - kernel) // stride + 1


def window_size(op: "Conv | MaxPool", size: int) -> int:
    """Output length of a window operator along one axis, pooling included."""
    size = conv_size(size, op.kernel, op.stride, op.pad)
    pool = getattr(op, "pool", 0)
    return conv_size(size, pool, op.pool_stride, pool // 2) if pool else size


def scratch_bytes(op: Op, program: Program) -> int:
    """Working memory an operator needs beside its inputs and output; the C runtime checks it.

    SpikeConv: what _spike_scratch says; membranes need none.
    SelfAttention: K^T V of one head, T x d_qk x d_v counts of 2 bytes.
    Classify: the channel sums, 4 bytes each.
    ChooseTokens: two scores a token, features of as many rows as a window has, and sums of them.
    """
    steps = program.time_steps
    match op:
        case SpikeConv() if program.value(op.input).kind != Kind.MEMBRANE:
            return _spike_scratch(op, program.value(op.input), steps)
        case SelfAttention():
            per_head = program.value(op.key).shape[2] // op.heads
            return steps * per_head * (program.value(op.value).shape[2] // op.heads) * 2
        case Classify():
            return 4 * op.weight.shape[0]
        case ChooseTokens():
            source = program.value(op.input)
            height, width, channels = source.shape
            rows = min(op.window, height) + 1
            return 4 * (2 * source.tokens + (rows * width + 2) * channels)
        case _:
            return 0


def _spike_scratch(op: SpikeConv, source: Value, steps: int) -> int:
    """Memory in which one output token can be worked on, as firmware/kernels/spike_gather.c lays it
    out: the bytes of a window, of levels those of T steps and of their patterns, 2 bytes an input
    to sort them, the currents of a tile (with pooling twice) and for each pooled position the lists
    of inputs that fire: one set for each four steps, or for each step and nibble of levels.
    """
    rows = op.weight.shape[0]
    sets, planes, room, patterns = -(-steps // 4), 1, 1, 0
    if source.kind == Kind.LEVELS:
        each = steps * (2 if source.max_level > 15 else 1)
        room = min(source.max_level, MOST_PATTERNS) if steps > 1 else 0
        sets, planes, room = max(each, room * sets), steps, max(room, 1)
        patterns = _aligned((room + 1) * rows + 16)
    lists = _aligned(8 + 72 * sets) + sets * _aligned(2 * (rows + 96))
    fixed = (planes * _aligned(rows + 16) + patterns + _aligned(2 * room * rows)
             + _aligned((2 if op.pool else 1) * 4 * steps * 32))
    return fixed + max(op.pool, 1) ** 2 * lists


def _aligned(size: int) -> int:
    return -(-size // 16) * 16
