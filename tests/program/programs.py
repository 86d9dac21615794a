"""Small programs for tests: single operators with chosen constants, and random whole networks."""

import numpy as np

from edgesvit.program.ops import (
    Add,
    Classify,
    EncodeConv,
    Kind,
    MaxPool,
    Program,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    conv_size,
)
from edgesvit.program.validate import int16_certificate


class Builder:
    """Appends operators with random constants; `random` decides all of them."""

    def __init__(self, random: np.random.Generator, time_steps: int, image: tuple[int, int, int]):
        self.random, self.time_steps = random, time_steps
        self.values = [Value("image", Kind.PIXELS, image, 255)]
        self.ops = []

    def new(self, kind: Kind, shape: tuple[int, int, int], max_level: int = 1) -> Value:
        """Declare the next value."""
        value = Value(f"v{len(self.values)}", kind, shape, max_level)
        self.values.append(value)
        return value

    def _constants(self, taps: int, channels: int, level: int, extreme: bool) -> tuple:
        weight = self.random.integers(-127, 128, (taps, channels)).astype(np.int8)
        if extreme:
            weight[:] = self.random.choice([-128, 127], channels)
        spread = max(1, int(40 * level * np.sqrt(taps)))
        bias = self.random.integers(-spread, spread + 1, channels).astype(np.int32)
        threshold = self.random.integers(1, 2 * spread + 1, channels).astype(np.int32)
        return weight, bias, threshold

    def _shape(self, source: Value, kernel: int, stride: int, pad: int, channels: int) -> tuple:
        return (*(conv_size(n, kernel, stride, pad) for n in source.shape[:2]), channels)

    def _pooled(self, shape: tuple, pool: tuple[int, int]) -> tuple:
        size, stride = pool
        if not size:
            return shape
        return (*(conv_size(n, size, stride, size // 2) for n in shape[:2]), shape[2])

    def encode(self, channels: int, kernel: int = 3, stride: int = 1, pad: int = 1,
               pool: tuple[int, int] = (0, 1)) -> Value:
        """EncodeConv of the image."""
        source = self.values[0]
        shape = self._shape(source, kernel, stride, pad, channels)
        out = self.new(Kind.SPIKES, self._pooled(shape, pool))
        constants = self._constants(kernel**2 * source.shape[2], channels, 128, False)
        pixel = self.random.integers(0, 256, source.shape[2]).astype(np.uint8)
        self.ops.append(EncodeConv("image", out.name, kernel, stride, pad, *constants, pixel,
                                   *pool))
        return out

    def conv(self, source: Value, channels: int, kernel: int = 1, stride: int = 1, pad: int = 0,
             extreme: bool = False, pool: tuple[int, int] = (0, 1)) -> Value:
        """SpikeConv; `extreme` gives rows of the largest weights, so that int16 overflows."""
        shape = self._shape(source, kernel, stride, pad, channels)
        out = self.new(Kind.SPIKES, self._pooled(shape, pool))
        constants = self._constants(kernel**2 * source.shape[2], channels, source.max_level,
                                    extreme)
        certified = int16_certificate(*constants, source.max_level)
        self.ops.append(SpikeConv(source.name, out.name, kernel, stride, pad, *constants,
                                  certified, *pool))
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

    def attend(self, source: Value, heads: int, query_dim: int, value_dim: int) -> Value:
        """Three projections and a SelfAttention with the thresholds of a real one."""
        query, key = (self.conv(source, heads * query_dim) for _ in range(2))
        value = self.conv(source, heads * value_dim)
        out = self.new(Kind.SPIKES, value.shape)
        self.ops.append(SelfAttention(query.name, key.name, value.name, out.name, heads,
                                      self.time_steps, 4 << self.time_steps))
        return out

    def attend_tokens(self, source: Value, heads: int, dim: int) -> Value:
        """Two projections and a TokenAttention that about half of the tokens pass."""
        query, key = (self.conv(source, heads * dim) for _ in range(2))
        out = self.new(Kind.SPIKES, key.shape)
        threshold = int(self.random.integers(1, dim + 1)) << self.time_steps
        self.ops.append(TokenAttention(query.name, key.name, out.name, heads, self.time_steps,
                                       threshold >> 1))
        return out

    def finish(self, source: Value, classes: int) -> Program:
        """Classify and close the program."""
        out = self.new(Kind.LOGITS, (1, 1, classes))
        weight = self.random.integers(-127, 128, (source.shape[2], classes)).astype(np.int8)
        bias = self.random.integers(-1000, 1000, classes).astype(np.int32)
        self.ops.append(Classify(source.name, out.name, weight, bias))
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
    x = build.add(x, build.conv(x, x.shape[2], kernel=3, pad=1))
    for _ in range(int(random.integers(0, 3))):
        heads = int(random.integers(1, 4))
        query_dim, value_dim = (int(n) for n in random.integers(1, 12, 2))
        mixed = (build.attend(x, heads, query_dim, value_dim) if random.random() < 0.6
                 else build.attend_tokens(x, heads, query_dim))
        x = build.add(x, build.conv(mixed, x.shape[2]))
        hidden = build.conv(x, int(random.integers(1, 70)), extreme=random.random() < 0.3)
        x = build.add(x, build.conv(hidden, x.shape[2]))
    return build.finish(x, int(random.integers(1, 12)))


def random_image(program: Program, seed: int) -> np.ndarray:
    """A random image, sometimes all-zero or all-255."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, program.input.shape)
    return (image * random.choice([0, 1, 1, 1]) | random.choice([0, 0, 0, 255])).astype(np.uint8)
