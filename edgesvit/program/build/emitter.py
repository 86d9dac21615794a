"""From float layers to operators: folding, quantisation, and the values they pass on.

Works on plain arrays (a state dict of NumPy tensors), so that building needs no training framework.
Notation: K inputs of a neuron, C output channels, T time steps, N tokens. The *unit* of a value is
the real number that one of its integers stands for: 1 for spikes, 1/D for the levels of an integer
neuron, one number a channel for membranes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgesvit.models.config import AnyConfig, SdtV3LargeConfig
from edgesvit.program.ops import (
    Add,
    DepthwiseConv,
    EncodeConv,
    Fire,
    HadamardAttention,
    Kind,
    MaxPool,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    conv_size,
)
from edgesvit.program.validate import MAX_MEMBRANE, SUM_LIMIT, int16_certificate

BN_EPSILON = 1e-5
# A membrane that collects batch-normalised branches is given this many standard deviations of each.
DEVIATIONS = 6
TINY = 1e-6  # the scale of a channel that is always 0
Pool = tuple[int, int] | None  # size and stride of max-pooling before the neuron
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Membrane:
    """Where currents go that no neuron follows: a new membrane, or one more branch of `stream`."""

    unit: np.ndarray  # float [C]
    max_level: int = MAX_MEMBRANE
    stream: Value | None = None


def fold_batch_norm(weight: np.ndarray, bias: np.ndarray | float, weights: Weights, bn: str
                    ) -> tuple[np.ndarray, np.ndarray]:
    """Fold BatchNorm `bn` into a layer: weight [K, C] and bias [C] in float64.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta. A negative gamma flips the column's sign.
    """
    scale = weights[f"{bn}.weight"] / np.sqrt(
        weights[f"{bn}.running_var"].astype(np.float64) + BN_EPSILON)
    return (weight.astype(np.float64) * scale,
            (bias - weights[f"{bn}.running_mean"]) * scale + weights[f"{bn}.bias"])


def quantize(weight: np.ndarray, bias: np.ndarray, bits: int = 8, largest: float = 1.0
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real constants -> int8 weight [K, C], int32 bias [C] and the scale [C] of both.

    Each channel has a scale of its own, its largest weight over 2**(bits-1) - 1. A neuron is linear
    up to its comparison, so bias and threshold divided by the same scale give the same spikes, and
    no multiplication is left; `largest` is the highest threshold. Rounding is half-to-even.
    """
    top = 2 ** (bits - 1) - 1
    # A channel of (almost) zero weights: keep bias and threshold inside the accumulator's range.
    floor = np.maximum(np.abs(bias), largest) / 2**28
    scale = np.maximum(np.abs(weight).max(0) / top, floor)
    return (np.rint(weight / scale).astype(np.int8), np.rint(bias / scale).astype(np.int32), scale)


def lif_threshold(threshold: float, unit: np.ndarray, lost: np.ndarray | float = 0.0
                  ) -> np.ndarray:
    """The integer LIF threshold int32 [C] of currents in `unit` [C]; at least 1.

    `lost` is what the rounded bias lacks at every step. The membrane would have collected 1/2, 3/4,
    7/8 ... of it, so the threshold comes down by 3/4.
    """
    return np.maximum(np.rint(threshold / unit - 0.75 * lost), 1).astype(np.int32)


def level_thresholds(levels: int, unit: np.ndarray | float, lost: np.ndarray | float = 0.0,
                     half_up: bool = False) -> np.ndarray:
    """The currents, in `unit` [C], from which the integer neuron gives 1..D: int64 [D, C].

    round(x) reaches k at x >= k - 1/2; where halves go to the even neighbour, an odd k only above.
    `lost` is what the rounded bias lacks: taken off the thresholds, its rounding changes nothing.
    """
    k = np.arange(1, levels + 1).reshape(-1, *(1,) * np.ndim(unit))
    bound = (k - 0.5) / unit - lost
    return np.where(k % 2 & (not half_up), np.floor(bound) + 1, np.ceil(bound)).astype(np.int64)


def requantize(ratio: np.ndarray) -> tuple[np.ndarray, int]:
    """`scale` int32 [C] and `shift` with scale / 2**shift next to `ratio` [C], all below 2**30."""
    shift = min(max(math.floor(30 - math.log2(max(ratio.max(), 2.0**-40))), 1), 62)
    return np.rint(ratio * 2.0**shift).astype(np.int32), shift


def fold_pixels(weight: np.ndarray, mean: Sequence[float], std: Sequence[float]
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The standard deviations and means of x = (pixel / 255 - mean) / std, for the first layer.

    Returns the weight [K, C] of pixels; the grey level [K] at which each input is zero, which the
    bias must take off with the *rounded* weights, or their rounding would shift every current;
    and pad_pixel, the same as the format stores it, in integers: exact for every recipe of this
    package (they choose such means), half a grey level off at worst.
    """
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    taps = weight.shape[0] // len(mean)
    per_input = np.tile(1 / (255 * std), taps)[:, None]
    return weight * per_input, np.tile(255 * mean, taps), np.rint(255 * mean).astype(np.uint8)


class Emitter:
    """Appends operators and the values they write; `layer` and `bn` name tensors of the weights."""

    def __init__(self, config: AnyConfig, weights: Weights, bits: int, mean: Sequence[float],
                 std: Sequence[float], events: bool = False,
                 layer_bits: Mapping[str, int] | None = None):
        self.config, self.weights, self.bits = config, weights, bits
        self.layer_bits = layer_bits or {}
        self.layers: list[str] = []  # whose constants operators hold, in their order
        self.mean, self.std = mean, std
        self.time_steps = getattr(config, "time_steps", 1)
        self.levels = getattr(config, "levels", 0)  # D of integer neurons; 0: the neurons are LIF
        self.half_up = isinstance(config, SdtV3LargeConfig)  # how integer neurons round halves
        height, width = config.image_size
        kind = Kind.LEVELS if events else Kind.PIXELS
        self.values = [Value("image", kind, (height, width, config.in_channels), 255)]
        self.units: dict[str, np.ndarray] = {}  # of all values whose unit is not 1
        self.ops: list = []

    def new(self, name: str, kind: Kind, shape: tuple[int, int, int], max_level: int = 1,
            unit: np.ndarray | float = 1.0) -> Value:
        """Declare a value."""
        value = Value(name, kind, shape, max_level)
        self.values.append(value)
        if kind == Kind.MEMBRANE or np.any(unit != 1):
            self.units[name] = np.asarray(unit)
        return value

    def bits_of(self, layer: str) -> int:
        """The width of a layer's weights; `layer` is its module's name."""
        return self.layer_bits.get(layer, self.bits)

    def conv_constants(self, layer: str, bn: str | None) -> tuple[np.ndarray, np.ndarray]:
        """[K, C] and [C] with BN folded in; K runs over taps first, then input channels."""
        kernel = self.weights[f"{layer}.weight"]  # [C, C_in, k, k], [C, C_in, 1] or [C, C_in]
        kernel = kernel.reshape(*kernel.shape, *(1,) * (4 - kernel.ndim))
        matrix = kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])
        bias = self.weights.get(f"{layer}.bias", np.zeros(kernel.shape[0]))
        if bn is None:
            return matrix.astype(np.float64), bias.astype(np.float64)
        return fold_batch_norm(matrix, bias, self.weights, bn)

    def stream(self, bns: Sequence[str], gains: Mapping[str, np.ndarray] | None = None) -> Membrane:
        """A membrane wide enough for the sum of branches that end in these batch norms.

        A batch norm's output has the mean beta and the deviation |gamma|: no data are needed.
        `gains` [C] multiply what some of them put out.
        """
        gains = gains or {}
        reach = sum((np.abs(self.weights[f"{bn}.bias"]).astype(np.float64)
                     + DEVIATIONS * np.abs(self.weights[f"{bn}.weight"]))
                    * np.abs(gains.get(bn, 1.0)) for bn in bns)
        return Membrane(np.maximum(reach, self._highest) / MAX_MEMBRANE)

    def between(self, reach: np.ndarray, readers: int) -> Membrane:
        """A membrane for currents of magnitudes up to `reach` [C].

        The layer behind has `readers` inputs a neuron, and its int32 sums bound these integers.
        """
        top = min(MAX_MEMBRANE, (SUM_LIMIT - 1) // (128 * readers))
        return Membrane(np.maximum(reach, TINY) / top, top)

    def encode(self, name: str, layer: str, bn: str, kernel: int = 3, stride: int = 1,
               pool: Pool = None, to: Membrane | None = None) -> Value:
        """The first convolution, of an image or of event counts, whose zero stays zero."""
        source = self.values[0]
        weight, bias = self.conv_constants(layer, bn)
        weight, zero, pad_pixel = fold_pixels(weight, self.mean, self.std)
        if source.kind == Kind.LEVELS:
            return self.convolve(name, layer, weight, bias, source, kernel, stride, pool, to)
        weight, bias, after = self._integers(layer, weight, bias, to, zero)
        shape = self._window(source, kernel, stride, pool, weight.shape[1])
        out = self._following(name, shape, to)
        self.ops.append(EncodeConv(source.name, name, kernel, stride, kernel // 2, weight, bias,
                                   **after, pad_pixel=pad_pixel, **_pooling(pool)))
        return out

    def conv(self, name: str, layer: str, bn: str | None, source: Value, kernel: int = 1,
             stride: int = 1, pool: Pool = None, to: Membrane | None = None) -> Value:
        """A convolution, padded so that stride 1 keeps the size, and a neuron or a membrane."""
        weight, bias = self.conv_constants(layer, bn)
        return self.convolve(name, layer, weight, bias, source, kernel, stride, pool, to)

    def convolve(self, name: str, layer: str, weight: np.ndarray, bias: np.ndarray, source: Value,
                 kernel: int = 1, stride: int = 1, pool: Pool = None, to: Membrane | None = None
                 ) -> Value:
        """As `conv`, with real constants [K, C] and [C] made from those of `layer`."""
        weight = weight * self._unit_rows(source, weight)
        weight, bias, after = self._integers(layer, weight, bias, to)
        out = self._following(name, self._window(source, kernel, stride, pool, weight.shape[1]), to)
        certified = int16_certificate(weight, bias, after.get("threshold"), source.max_level)
        self.ops.append(SpikeConv(source.name, name, kernel, stride, kernel // 2, weight, bias,
                                  **after, certified=certified, **_pooling(pool)))
        return out

    def depthwise(self, name: str, layer: str, weight: np.ndarray, bias: np.ndarray,
                  source: Value, to: Membrane | None = None) -> Value:
        """A depth-wise convolution of stride 1 with real constants [kernel^2, C] and [C]."""
        unit = self.units.get(source.name, 1.0)
        weight, bias, after = self._integers(layer, weight * unit, bias, to)
        kernel = math.isqrt(weight.shape[0])
        out = self._following(name, source.shape, to)
        self.ops.append(DepthwiseConv(source.name, name, kernel, 1, kernel // 2, weight, bias,
                                      **after))
        return out

    def fire(self, name: str, source: Value, over_tokens: bool = False, divided: bool = True
             ) -> Value:
        """Neurons on a membrane, or on its mean over the tokens; levels in 1/D or bare."""
        tokens = source.tokens if over_tokens else 1
        threshold = self._threshold(self.units[source.name] / tokens)
        size = (1, 1) if over_tokens else source.shape[:2]
        out = self._fired(name, (*size, source.shape[2]))
        if not divided:
            self.units.pop(name, None)
        self.ops.append(Fire(source.name, name, threshold, over_tokens))
        return out

    def pool(self, name: str, source: Value, stride: int = 2) -> Value:
        """Max-pooling of spikes, 3x3."""
        size = (conv_size(n, 3, stride, 1) for n in source.shape[:2])
        out = self.new(name, Kind.SPIKES, (*size, source.shape[2]))
        self.ops.append(MaxPool(source.name, name, 3, stride, 1))
        return out

    def add(self, name: str, source: Value, branch: Value) -> Value:
        """The residual stream `source` plus the spikes `branch`."""
        out = self.new(name, Kind.LEVELS, source.shape, source.max_level + 1)
        self.ops.append(Add(source.name, branch.name, name))
        return out

    def attend(self, name: str, query: Value, key: Value, value: Value, scale: float) -> Value:
        """Spiking self-attention with the official scale of its sums."""
        names = (query.name, key.name, value.name, name, self.config.heads)
        out = self._fired(name, value.shape)
        if self.levels:
            unit = scale / self.levels**3  # of q k v, each in units of 1/D
            bounds = level_thresholds(self.levels, unit, half_up=self.half_up).tolist()
            self.ops.append(SelfAttention(*names, 0, level_thresholds=tuple(bounds)))
        else:
            self.ops.append(SelfAttention(*names, self.time_steps, self._count_threshold(scale)))
        return out

    def attend_tokens(self, name: str, query: Value, key: Value) -> Value:
        """QKFormer's token attention, which has no scale."""
        out = self.new(name, Kind.SPIKES, key.shape)
        self.ops.append(TokenAttention(query.name, key.name, name, self.config.heads,
                                       self.time_steps, self._count_threshold(1.0)))
        return out

    def attend_hadamard(self, name: str, query: Value, key: Value, value: Value, heads: int = 0
                        ) -> Value:
        """SDT-V1's attention, which has no scale; the event form has heads."""
        out = self.new(name, Kind.SPIKES, query.shape)
        self.ops.append(HadamardAttention(query.name, key.name, value.name, name, self.time_steps,
                                          self._count_threshold(1.0), heads))
        return out

    @property
    def _highest(self) -> float:
        """The highest threshold of a neuron."""
        return self.levels or self.config.threshold

    def _threshold(self, unit: np.ndarray, lost: np.ndarray | float = 0.0) -> np.ndarray:
        if self.levels:
            return level_thresholds(self.levels, unit, lost, self.half_up).astype(np.int32)
        return lif_threshold(self.config.threshold, unit, lost)

    def _count_threshold(self, scale: float) -> int:
        # In units of scale / 2**T the membrane is an integer at every step, so comparing it with
        # the next integer above the threshold is exact.
        return math.ceil(self.config.attention_threshold / scale * 2**self.time_steps)

    def _unit_rows(self, source: Value, weight: np.ndarray) -> np.ndarray | float:
        """What one integer of the input of each row of `weight` stands for: [K, 1] or 1."""
        unit = self.units.get(source.name)
        if unit is None:
            return 1.0
        unit = np.broadcast_to(unit, source.shape[2])
        return np.tile(unit, weight.shape[0] // source.shape[2])[:, None]

    def _integers(self, layer: str, weight: np.ndarray, bias: np.ndarray, to: Membrane | None,
                  zero: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, dict]:
        """Weight, bias, and what follows the currents: a neuron's threshold or a new scale.

        `zero` [K] are the inputs that stand for zero, if they are not 0.
        """
        largest = TINY if to else self._highest
        self.layers.append(layer)
        exact, width = bias, self.bits_of(layer)
        weight, bias, scale = quantize(weight, bias, width, largest)
        lost = exact / scale - bias
        if zero is not None:
            bias = (bias - np.rint(zero @ weight)).astype(bias.dtype)
        bits = {"weight_bits": width}
        if to is None:
            return weight, bias, bits | {"threshold": self._threshold(scale, lost)}
        factor, shift = requantize(scale / to.unit)
        name = to.stream.name if to.stream else ""
        return weight, bias, bits | {"scale": factor, "shift": shift, "stream": name}

    def _following(self, name: str, shape: tuple[int, int, int], to: Membrane | None) -> Value:
        if to is None:
            return self._fired(name, shape)
        return self.new(name, Kind.MEMBRANE, shape, to.max_level, to.unit)

    def _fired(self, name: str, shape: tuple[int, int, int]) -> Value:
        if self.levels:
            return self.new(name, Kind.LEVELS, shape, self.levels, 1 / self.levels)
        return self.new(name, Kind.SPIKES, shape)

    def _window(self, source: Value, kernel: int, stride: int, pool: Pool, channels: int
                ) -> tuple[int, int, int]:
        size = [conv_size(n, kernel, stride, kernel // 2) for n in source.shape[:2]]
        if pool:
            size = [conv_size(n, pool[0], pool[1], pool[0] // 2) for n in size]
        return (*size, channels)


def _pooling(pool: Pool) -> dict[str, int]:
    return {"pool": pool[0], "pool_stride": pool[1]} if pool else {}
