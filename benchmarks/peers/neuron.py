"""What a fused neuron costs within our spiking layer.

A layer in which nothing fires still sorts its inputs, expands its weights, and runs its neurons on
the biases. Only the last grows with tokens times channels: of four layers, two numbers of tokens
by two of channels, the mixed difference is left. It holds everything a neuron has: its bias and
threshold loaded, T steps, its code byte stored, and its part of the loops around.
"""

from collections.abc import Callable
from dataclasses import dataclass

from peers.layers import Layer

CHANNELS = 64
SIDES, OUT_CHANNELS = (8, 16), (128, 512)
STEPS, FEWER = 4, 2


@dataclass(frozen=True)
class Neuron:
    """Per neuron and step: `whole` is all of it over T = 4, `step` what one more step adds."""

    whole: float
    step: float


def neuron(measure: Callable[[Layer], float]) -> Neuron:
    """`measure` says what a silent layer costs."""
    many, few = _grown(measure, STEPS), _grown(measure, FEWER)
    return Neuron(many / STEPS, (many - few) / (STEPS - FEWER))


def _grown(measure: Callable[[Layer], float], steps: int) -> float:
    (small, large), (narrow, wide) = SIDES, OUT_CHANNELS

    def cost(side: int, channels: int) -> float:
        return measure(Layer(CHANNELS, channels, time_steps=steps, side=side))

    mixed = cost(large, wide) - cost(large, narrow) - cost(small, wide) + cost(small, narrow)
    return mixed / ((large**2 - small**2) * (wide - narrow))
