"""The layers that are compared: spiking, T steps, 14 x 14 tokens."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Layer:
    """side x side tokens; kernel 1 is a linear layer, kernel 3 pads by 1."""

    channels: int
    out_channels: int
    kernel: int = 1
    time_steps: int = 4
    side: int = 14
    bits: int = 8  # of a weight

    @property
    def name(self) -> str:
        """As tables show it."""
        window = "" if self.kernel == 1 else f" {self.kernel}x{self.kernel}"
        return f"{self.channels}->{self.out_channels}{window}"

    @property
    def inputs(self) -> int:
        """K."""
        return self.kernel * self.kernel * self.channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a dense program, all steps."""
        return self.time_steps * self.side ** 2 * self.inputs * self.out_channels

    def packed(self, bits: int) -> "Layer":
        """The same layer with weights of so many bits."""
        return replace(self, bits=bits)

    def steps(self, count: int) -> "Layer":
        """The same layer with T = count."""
        return replace(self, time_steps=count)


@dataclass(frozen=True)
class Firing:
    """How often inputs fire: `rate` in percent; `source` is `lif` or `bernoulli`.

    Or `recorded`: `codes` is a file of the layer's input codes, and the rate is theirs.
    """

    rate: int = 15
    source: str = "lif"
    codes: Path | None = None


LAYERS = (
    Layer(512, 512), Layer(512, 2048), Layer(2048, 512), Layer(128, 512),
    Layer(64, 128, 3), Layer(128, 256, 3), Layer(256, 512, 3),
)
RATES = (5, 10, 15, 20, 30, 40)


def random_weight(layer: Layer) -> np.ndarray:
    """int8 [K, out_channels]."""
    values = np.random.default_rng(0).normal(0, 28, (layer.inputs, layer.out_channels))
    return np.clip(np.rint(values), -127, 127).astype(np.int8)


def random_spikes(layer: Layer, rate: int = 15) -> np.ndarray:
    """uint8 [T, side, side, channels] of 0 and 1."""
    shape = (layer.time_steps, layer.side, layer.side, layer.channels)
    return (np.random.default_rng(1).random(shape) * 100 < rate).astype(np.uint8)
