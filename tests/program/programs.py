"""Small programs for tests: single operators with chosen constants, and random whole networks."""

from collections.abc import Callable

import numpy as np

from edgesvit.boards.local import kernels
from edgesvit.program.ops import (
    Add,
    ChooseTokens,
    Classify,
    DepthwiseConv,
    EncodeConv,
    Fire,
    Gather,
    HadamardAttention,
    Kind,
    MaxPool,
    Program,
    PutBack,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    conv_size,
)
from edgesvit.program.validate import int16_certificate

Gives = tuple[Kind, int]


class Builder:
    """Appends operators with random constants; `random` decides all of them."""

    def __init__(self, random: np.random.Generator, time_steps: int, image: tuple[int, int, int],
                 events: int = 0):
        self.random, self.time_steps = random, time_steps
        kind = Kind.LEVELS if events else Kind.PIXELS
        self.values = [Value("image", kind, image, events or 255)]
        self.ops = []

    def new(self, kind: Kind, shape: tuple[int, int, int], max_level: int = 1) -> Value:
        """Declare the next value."""
        value = Value(f"v{len(self.values)}", kind, shape, max_level)
        self.values.append(value)
        return value

    def _weight(self, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
        """Weights in 8 bits or fewer, and in how many."""
        bits = int(self.random.choice([8, 8, 8, 7, 6, 5, 4, 3, 2]))
        top = 1 << (bits - 1)
        return self.random.integers(-top, top, shape).astype(np.int8), bits

    def _constants(self, taps: int, channels: int, level: int, extreme: bool) -> tuple:
        weight, bits = self._weight((taps, channels))
        if extreme:
            weight[:] = self.random.choice([-(1 << (bits - 1)), (1 << (bits - 1)) - 1], channels)
        spread = max(1, int(40 * level * np.sqrt(taps)) >> (8 - bits))
        bias = self.random.integers(-spread, spread + 1, channels).astype(np.int32)
        return weight, bias, bits, spread

    def _thresholds(self, out: Value, spread: int) -> np.ndarray:
        shape = (out.shape[2],) if out.kind == Kind.SPIKES else (out.max_level, out.shape[2])
        return self.random.integers(1, 2 * spread + 1, shape).astype(np.int32)

    def _after(self, out: Value, spread: int, stream: Value | None) -> dict:
        """What follows the currents, `spread` of which are usual."""
        if out.kind != Kind.MEMBRANE:
            return {"threshold": self._thresholds(out, spread)}
        shift = int(self.random.integers(1, 63))
        usual = min(out.max_level / 2 / spread * 2.0**shift, 2.0**31 - 1)
        scale = np.rint(usual * self.random.uniform(0, 1, out.shape[2])).astype(np.int32)
        return {"scale": scale, "shift": shift, "stream": stream.name if stream else ""}

    def _shape(self, source: Value, kernel: int, stride: int, pad: int, channels: int) -> tuple:
        return (*(conv_size(n, kernel, stride, pad) for n in source.shape[:2]), channels)

    def _pooled(self, shape: tuple, pool: tuple[int, int]) -> tuple:
        size, stride = pool
        if not size:
            return shape
        return (*(conv_size(n, size, stride, size // 2) for n in shape[:2]), shape[2])

    def encode(self, channels: int, kernel: int = 3, stride: int = 1, pad: int = 1,
               pool: tuple[int, int] = (0, 1), gives: Gives = (Kind.SPIKES, 1),
               stream: Value | None = None) -> Value:
        """EncodeConv of the image; `gives` is the kind and max_level of its output."""
        source = self.values[0]
        shape = self._shape(source, kernel, stride, pad, channels)
        out = self.new(gives[0], self._pooled(shape, pool), gives[1])
        taps = kernel**2 * source.shape[2]
        weight, bias, bits, spread = self._constants(taps, channels, 128, False)
        pixel = self.random.integers(0, 256, source.shape[2]).astype(np.uint8)
        self.ops.append(EncodeConv("image", out.name, kernel, stride, pad, weight, bias,
                                   **self._after(out, spread, stream), pad_pixel=pixel,
                                   weight_bits=bits, pool=pool[0], pool_stride=pool[1]))
        return out

    def conv(self, source: Value, channels: int, kernel: int = 1, stride: int = 1, pad: int = 0,
             extreme: bool = False, pool: tuple[int, int] = (0, 1),
             gives: Gives = (Kind.SPIKES, 1), stream: Value | None = None) -> Value:
        """SpikeConv; `extreme` gives rows of the largest weights, so that int16 overflows."""
        shape = self._shape(source, kernel, stride, pad, channels)
        out = self.new(gives[0], self._pooled(shape, pool), gives[1])
        weight, bias, bits, spread = self._constants(kernel**2 * source.shape[2], channels,
                                                     source.max_level, extreme)
        after = self._after(out, spread, stream)
        certified = int16_certificate(weight, bias, after.get("threshold"), source.max_level)
        self.ops.append(SpikeConv(source.name, out.name, kernel, stride, pad, weight, bias,
                                  **after, certified=certified, weight_bits=bits, pool=pool[0],
                                  pool_stride=pool[1]))
        return out

    def depthwise(self, source: Value, kernel: int = 3, stride: int = 1, pad: int = 1,
                  gives: Gives = (Kind.SPIKES, 1), stream: Value | None = None) -> Value:
        """DepthwiseConv."""
        shape = self._shape(source, kernel, stride, pad, source.shape[2])
        out = self.new(gives[0], shape, gives[1])
        weight, bias, bits, spread = self._constants(kernel**2, shape[2], source.max_level, False)
        self.ops.append(DepthwiseConv(source.name, out.name, kernel, stride, pad, weight, bias,
                                      **self._after(out, spread, stream), weight_bits=bits))
        return out

    def fire(self, source: Value, gives: Gives = (Kind.SPIKES, 1), over_tokens: bool = False
             ) -> Value:
        """Fire; thresholds up to an eighth of the largest membrane."""
        size = (1, 1) if over_tokens else source.shape[:2]
        out = self.new(gives[0], (*size, source.shape[2]), gives[1])
        self.ops.append(Fire(source.name, out.name,
                             self._thresholds(out, 1 + source.max_level // 16), over_tokens))
        return out

    def pool(self, source: Value, kernel: int = 3, stride: int = 2, pad: int = 1) -> Value:
        """MaxPool."""
        out = self.new(Kind.SPIKES, self._shape(source, kernel, stride, pad, source.shape[2]))
        self.ops.append(MaxPool(source.name, out.name, kernel, stride, pad))
        return out

    def add(self, source: Value, branch: Value) -> Value:
        """Add."""
        out = self.new(Kind.LEVELS, source.shape, source.max_level + 1)
        self.ops.append(Add(source.name, branch.name, out.name))
        return out

    def attend(self, source: Value, heads: int, query_dim: int, value_dim: int,
               gives: Gives = (Kind.SPIKES, 1)) -> Value:
        """Three projections and a SelfAttention with the thresholds of a real one."""
        query, key = (self.conv(source, heads * query_dim, gives=gives) for _ in range(2))
        value = self.conv(source, heads * value_dim, gives=gives)
        out = self.new(gives[0], value.shape, gives[1])
        names = (query.name, key.name, value.name, out.name, heads)
        if gives[0] == Kind.SPIKES:
            self.ops.append(SelfAttention(*names, self.time_steps, 4 << self.time_steps))
        else:
            usual = source.tokens * query_dim * gives[1]**3 // 64
            levels = self.random.integers(1, usual + 2, gives[1]) << 1
            self.ops.append(SelfAttention(*names, 1, level_thresholds=tuple(levels.tolist())))
        return out

    def attend_hadamard(self, source: Value, channels: int, heads: int = 0) -> Value:
        """Three projections and a HadamardAttention, with heads that of event models."""
        query, key, value = (self.conv(source, channels) for _ in range(3))
        out = self.new(Kind.SPIKES, query.shape)
        threshold = 1 << self.time_steps >> 1  # one coincidence at the first step
        self.ops.append(HadamardAttention(query.name, key.name, value.name, out.name,
                                          self.time_steps, threshold, heads))
        return out

    def attend_tokens(self, source: Value, heads: int, dim: int) -> Value:
        """Two projections and a TokenAttention that about half of the tokens pass."""
        query, key = (self.conv(source, heads * dim) for _ in range(2))
        out = self.new(Kind.SPIKES, key.shape)
        threshold = int(self.random.integers(1, dim + 1)) << self.time_steps
        self.ops.append(TokenAttention(query.name, key.name, out.name, heads, self.time_steps,
                                       threshold >> 1))
        return out

    def choose(self, source: Value, kept: int, window: int = 3, spatial: int = 1,
               temporal: int = 1) -> Value:
        """ChooseTokens."""
        scale = None
        if source.kind == Kind.MEMBRANE:
            scale = self.random.integers(0, 32768, source.shape[2]).astype(np.int32)
        out = self.new(Kind.INDEX, (1, kept, 1), source.tokens - 1)
        self.ops.append(ChooseTokens(source.name, out.name, window, spatial, temporal, scale))
        return out

    def gather(self, source: Value, index: Value) -> Value:
        """Gather."""
        out = self.new(source.kind, (1, index.shape[1], source.shape[2]), source.max_level)
        self.ops.append(Gather(source.name, index.name, out.name))
        return out

    def put_back(self, source: Value, index: Value, branch: Value) -> Value:
        """PutBack."""
        out = self.new(source.kind, source.shape, max(source.max_level, branch.max_level))
        self.ops.append(PutBack(source.name, index.name, branch.name, out.name))
        return out

    def on_chosen(self, source: Value, block: Callable[[Value], Value]) -> Value:
        """Half of the time, a block on some of the tokens, as many and with such weights as come.

        A map of one token, or of a kind that cannot be chosen from, has the block on all.
        """
        if source.tokens < 2 or self.random.random() < 0.5:
            return block(source)
        weights = ((1, 1), (1, 0), (0, 1), (15, 2))[self.random.integers(4)]
        index = self.choose(source, int(self.random.integers(1, source.tokens)),
                            int(self.random.choice([1, 3, 3, 5, 15])), *weights)
        return self.put_back(source, index, block(self.gather(source, index)))

    def classify(self, source: Value, classes: int, stream: str = "") -> Value:
        """Classify; scores of membranes are shifted so that they fit."""
        out = self.new(Kind.LOGITS, (1, 1, classes))
        weight, bits = self._weight((source.shape[2], classes))
        bias = self.random.integers(-1000, 1000, classes).astype(np.int32)
        largest = self.time_steps * source.tokens * source.max_level * source.shape[2] << bits
        shift = max(0, largest.bit_length() - 29) if source.kind == Kind.MEMBRANE else 0
        self.ops.append(Classify(source.name, out.name, weight, bias, bits, shift, stream))
        return out

    def finish(self, source: Value, classes: int, first: Value | None = None) -> Program:
        """Classify and close the program; `first` is what another classifier reads."""
        stream = self.classify(first, classes).name if first else ""
        self.classify(source, classes, stream)
        return Program(self.time_steps, tuple(self.values), tuple(self.ops))


def random_program(seed: int) -> Program:
    """A small spiking transformer of random shape: every operator occurs in most of them."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(3, 9, 2))
    build = Builder(random, int(random.integers(1, 9)), (*size, int(random.integers(1, 4))))
    pools = ((0, 1), (0, 1), (3, 2), (2, 1))
    x = build.encode(int(random.integers(1, 40)), stride=int(random.integers(1, 3)),
                     pool=pools[random.integers(4)])
    if random.random() < 0.7:
        x = build.pool(x)
    if random.random() < 0.5:
        x = build.conv(x, int(random.integers(1, 40)), kernel=3, pad=1,
                       pool=pools[random.integers(4)])
    x = build.on_chosen(x, lambda spikes: build.conv(spikes, spikes.shape[2]))
    x = build.add(x, build.conv(x, x.shape[2], kernel=3, pad=1))

    def block(x: Value) -> Value:
        heads = int(random.integers(1, 4))
        query_dim, value_dim = (int(n) for n in random.integers(1, 12, 2))
        mixed = (build.attend(x, heads, query_dim, value_dim) if random.random() < 0.6
                 else build.attend_tokens(x, heads, query_dim))
        x = build.add(x, build.conv(mixed, x.shape[2]))
        hidden = build.conv(x, int(random.integers(1, 70)), extreme=random.random() < 0.3)
        return build.add(x, build.conv(hidden, x.shape[2]))

    for _ in range(int(random.integers(0, 3))):
        x = build.on_chosen(x, block)
    return build.finish(x, int(random.integers(1, 12)))


def random_membrane_program(seed: int) -> Program:
    """A small network with a membrane stream, of spikes (like SDT-V1, V2) or levels (SDT-V3)."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(3, 9, 2))
    levels = int(random.choice([0, 0, 1, 4, 8]))
    steps = 1 if levels and random.random() < 0.7 else int(random.integers(1, 9))
    events = int(random.choice([0, 0, 15]))
    build = Builder(random, steps, (*size, int(random.integers(1, 4))), events)
    fires = (Kind.LEVELS, levels) if levels else (Kind.SPIKES, 1)
    stream = (Kind.MEMBRANE, int(random.choice([100, 5000, 32767])))
    channels, pool = int(random.integers(1, 40)), ((0, 1), (0, 1), (3, 2))[random.integers(3)]
    if events:
        x = build.conv(build.values[0], channels, 3, pad=1, gives=stream, pool=pool)
    else:
        x = build.encode(channels, 3, int(random.integers(1, 3)), gives=stream, pool=pool)
    if random.random() < 0.5:
        x = build.conv(build.fire(x, fires), channels, 3, 2, 1, gives=stream)

    def attention(x: Value) -> Value:
        spikes = build.fire(x, fires)
        if levels or random.random() < 0.5:
            mixed = build.attend(spikes, 2, int(random.integers(1, 12)), 3, fires)
        else:
            width = int(random.integers(1, 40))
            heads = max(n for n in (0, 2, 3) if not n or width % n == 0)
            mixed = build.attend_hadamard(spikes, width, heads)
        return build.conv(mixed, channels, gives=stream, stream=x)

    for _ in range(int(random.integers(1, 3))):
        inner = build.conv(build.fire(x, fires), int(random.integers(1, 40)), gives=fires)
        if random.random() < 0.5:
            inner = build.depthwise(inner, *((3, 1, 1), (7, 1, 3))[random.integers(2)],
                                    gives=(Kind.MEMBRANE, 500))
        else:
            inner = build.depthwise(inner, gives=fires)
        x = build.conv(inner, channels, gives=stream, stream=x)
        x = build.on_chosen(x, attention)
        x = build.depthwise(build.fire(x, fires), gives=stream, stream=x)
        low = build.conv(build.fire(x, fires), channels, gives=(Kind.MEMBRANE, 3000))
        x = build.conv(build.depthwise(low, gives=(Kind.MEMBRANE, 2000)), channels, gives=stream,
                       stream=x)
    levels = build.fire(x, fires, random.random() < 0.7)
    classes = int(random.integers(1, 12))
    source, first = [(levels, None), (levels, x), (x, None)][random.integers(3)]
    return build.finish(source, classes, first)


def random_image(program: Program, seed: int) -> np.ndarray:
    """A random image, sometimes all-zero or all-255; random counts where it takes events."""
    random = np.random.default_rng(seed)
    if program.input.kind == Kind.LEVELS:
        shape = (program.time_steps, *program.input.shape)
        return random.integers(0, program.input.max_level + 1, shape).astype(np.uint8)
    image = random.integers(0, 256, program.input.shape)
    return (image * random.choice([0, 1, 1, 1]) | random.choice([0, 0, 0, 255])).astype(np.uint8)


def beyond_int16(steps: int) -> Program:
    """3x3 layers whose largest rows leave int16 where enough of them fire: at no corner, in most
    of the middle; from spikes and from levels."""
    b = Builder(np.random.default_rng(steps), steps, (5, 6, 3))
    x = b.encode(200)
    y = b.conv(x, 130, 3, pad=1, extreme=True)
    levels = b.add(x, b.conv(y, 200, extreme=True))
    return b.finish(b.conv(levels, 40, 3, pad=1, extreme=True), 3)


def roads() -> list[str]:
    """This processor's kernels: those that have a choice by lists alone, and by dense products."""
    return [name for kernel in kernels() for name in (
        [kernel] if kernel == "scalar" else [f"{kernel}+lists", f"{kernel}+dense"])]
