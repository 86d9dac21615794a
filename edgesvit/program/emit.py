"""Folding, quantisation and appending operators: what the builders of all families share.

Works on plain arrays (a state dict of NumPy tensors), so that building needs no training framework.
Notation: K inputs of a neuron, C output channels, T time steps, N tokens.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgesvit.models.config import QKFormerConfig, SpikformerConfig
from edgesvit.program.ops import (
    Add,
    Classify,
    EncodeConv,
    Kind,
    MaxPool,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    conv_size,
)
from edgesvit.program.validate import int16_certificate

BN_EPSILON = 1e-5
Pool = tuple[int, int] | None  # size and stride of max-pooling before the neuron
Weights = Mapping[str, np.ndarray]


def fold_batch_norm(weight: np.ndarray, bias: np.ndarray | float, weights: Weights, bn: str
                    ) -> tuple[np.ndarray, np.ndarray]:
    """Fold BatchNorm `bn` into a layer: weight [K, C] and bias [C] in float64.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta. A negative gamma flips the column's sign.
    """
    scale = weights[f"{bn}.weight"] / np.sqrt(
        weights[f"{bn}.running_var"].astype(np.float64) + BN_EPSILON)
    return (weight.astype(np.float64) * scale,
            (bias - weights[f"{bn}.running_mean"]) * scale + weights[f"{bn}.bias"])


def quantize_neurons(weight: np.ndarray, bias: np.ndarray, threshold: float, bits: int = 8
                     ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real constants -> int8 weight [K, C], int32 bias [C] and threshold [C].

    Each channel has a scale of its own, its largest weight over 2**(bits-1) - 1. The neuron is
    linear up to its comparison, so bias and threshold divided by the same scale give the same
    spikes, and no multiplication is left. Rounding is half-to-even.
    """
    top = 2 ** (bits - 1) - 1
    # A channel of (almost) zero weights: keep bias and threshold inside the accumulator's range.
    floor = np.maximum(np.abs(bias), threshold) / 2**28
    scale = np.maximum(np.abs(weight).max(0) / top, floor)
    return (np.rint(weight / scale).astype(np.int8), np.rint(bias / scale).astype(np.int32),
            np.maximum(np.rint(threshold / scale), 1).astype(np.int32))


def fold_pixels(weight: np.ndarray, bias: np.ndarray, mean: Sequence[float], std: Sequence[float]
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fold x = (pixel / 255 - mean) / std into weight [K, C] and bias [C]; also gives pad_pixel.

    Zero padding of x is a grey level of 255 * mean. The format stores it as an integer: exact for
    every recipe of this package (they choose such means), half a grey level off at worst.
    """
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    taps = weight.shape[0] // len(mean)
    per_input = np.tile(1 / (255 * std), taps)[:, None]
    shift = np.tile(mean / std, taps) @ weight
    return weight * per_input, bias - shift, np.rint(255 * mean).astype(np.uint8)


class Emitter:
    """Appends operators and the values they write; `layer` and `bn` name tensors of the weights."""

    def __init__(self, config: SpikformerConfig | QKFormerConfig, weights: Weights, bits: int):
        self.config, self.weights, self.bits = config, weights, bits
        height, width = config.image_size
        self.values = [Value("image", Kind.PIXELS, (height, width, config.in_channels), 255)]
        self.ops: list = []

    def new(self, name: str, kind: Kind, shape: tuple[int, int, int], max_level: int = 1) -> Value:
        """Declare a value."""
        value = Value(name, kind, shape, max_level)
        self.values.append(value)
        return value

    def conv_constants(self, layer: str, bn: str) -> tuple[np.ndarray, np.ndarray]:
        """Folded [K, C] and [C]; K runs over taps first, then input channels."""
        kernel = self.weights[f"{layer}.weight"]  # [C, C_in, k, k], [C, C_in, 1] or [C, C_in]
        kernel = kernel.reshape(*kernel.shape, *(1,) * (4 - kernel.ndim))
        matrix = kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])
        return fold_batch_norm(matrix, self.weights.get(f"{layer}.bias", 0.0), self.weights, bn)

    def _window(self, source: Value, kernel: int, stride: int, pool: Pool, channels: int
                ) -> tuple[int, int, int]:
        size = [conv_size(n, kernel, stride, kernel // 2) for n in source.shape[:2]]
        if pool:
            size = [conv_size(n, pool[0], pool[1], pool[0] // 2) for n in size]
        return (*size, channels)

    def encode(self, name: str, layer: str, bn: str, mean: Sequence[float],
               std: Sequence[float], pool: Pool = None) -> Value:
        """The first convolution, 3x3."""
        source = self.values[0]
        weight, bias, pad_pixel = fold_pixels(*self.conv_constants(layer, bn), mean, std)
        constants = quantize_neurons(weight, bias, self.config.threshold, self.bits)
        out = self.new(name, Kind.SPIKES, self._window(source, 3, 1, pool, weight.shape[1]))
        self.ops.append(EncodeConv(source.name, name, 3, 1, 1, *constants, pad_pixel,
                                   *(pool or (0, 1))))
        return out

    def conv(self, name: str, layer: str, bn: str, source: Value, kernel: int = 1,
             stride: int = 1, pool: Pool = None) -> Value:
        """A convolution of spikes or levels, padded so that stride 1 keeps the size."""
        constants = quantize_neurons(*self.conv_constants(layer, bn), self.config.threshold,
                                     self.bits)
        shape = self._window(source, kernel, stride, pool, constants[0].shape[1])
        out = self.new(name, Kind.SPIKES, shape)
        certified = int16_certificate(*constants, source.max_level)
        self.ops.append(SpikeConv(source.name, name, kernel, stride, kernel // 2, *constants,
                                  certified, *(pool or (0, 1))))
        return out

    def pool(self, name: str, source: Value) -> Value:
        """Max-pooling of spikes, 3x3, stride 2."""
        size = (conv_size(n, 3, 2, 1) for n in source.shape[:2])
        out = self.new(name, Kind.SPIKES, (*size, source.shape[2]))
        self.ops.append(MaxPool(source.name, name, 3, 2, 1))
        return out

    def add(self, name: str, source: Value, branch: Value) -> Value:
        """The residual stream `source` plus the spikes `branch`."""
        out = self.new(name, Kind.LEVELS, source.shape, source.max_level + 1)
        self.ops.append(Add(source.name, branch.name, name))
        return out

    def _attention_threshold(self, scale: float) -> int:
        # In units of scale / 2**T the membrane is an integer at every step, so comparing it with
        # the next integer above the threshold is exact.
        return math.ceil(self.config.attention_threshold / scale * 2**self.config.time_steps)

    def attend(self, name: str, query: Value, key: Value, value: Value) -> Value:
        """Spiking self-attention with the configured scale."""
        threshold = self._attention_threshold(self.config.attention_scale)
        out = self.new(name, Kind.SPIKES, value.shape)
        self.ops.append(SelfAttention(query.name, key.name, value.name, name, self.config.heads,
                                      self.config.time_steps, threshold))
        return out

    def attend_tokens(self, name: str, query: Value, key: Value) -> Value:
        """QKFormer's token attention, which has no scale."""
        out = self.new(name, Kind.SPIKES, key.shape)
        self.ops.append(TokenAttention(query.name, key.name, name, self.config.heads,
                                       self.config.time_steps, self._attention_threshold(1.0)))
        return out

    def classify(self, name: str, source: Value) -> None:
        """The head: means over tokens and steps, then a linear layer, as one integer layer."""
        weight = self.weights["head.weight"].astype(np.float64).T  # [C, classes]
        scale = np.abs(weight).max() / (2 ** (self.bits - 1) - 1)
        count = self.config.time_steps * source.tokens  # of the means over steps and tokens
        bias = np.rint(self.weights["head.bias"].astype(np.float64) * count / scale)
        self.new(name, Kind.LOGITS, (1, 1, weight.shape[1]))
        self.ops.append(Classify(source.name, name, np.rint(weight / scale).astype(np.int8),
                                 bias.astype(np.int32)))
