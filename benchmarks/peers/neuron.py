"""What a fused neuron costs within our spiking layer.

A layer in which nothing fires still sorts its inputs, expands its weights, and runs its neurons on
the biases. Only the last grows with tokens times channels: of four layers, two numbers of tokens
by two of channels, the mixed difference is left. It holds everything a neuron has: its bias and
threshold loaded, T steps, its code byte stored, and its part of the loops around.

The neuron's own instructions, without what makes its sum and chooses the step, are those of
kernels/neuron.c: one step of 128 neurons whose sums are in registers.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgesvit.lower.compile import need
from edgesvit.resources import shipped
from peers import mca
from peers.layers import Layer

CHANNELS = 60  # not in eights, so that lists are taken and not masks
WIDTH = 128  # neurons of a step of neuron.c
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


def alone() -> dict[str, Neuron]:
    """Instructions and predicted cycles of the neuron's own code: T = 4, and a step in the middle.

    Needs llvm-mca.
    """
    counts = _steps_alone()
    found = {}
    for what in range(2):
        first, middle, last = (counts[step][what] / WIDTH for step in ("first", "middle", "last"))
        whole = (first + (STEPS - 2) * middle + last) / STEPS
        found[("instructions", "predicted cycles")[what]] = Neuron(whole, middle)
    return found


def _steps_alone() -> dict[str, tuple[float, float]]:
    """Step -> instructions and cycles of WIDTH neurons."""
    source = Path(__file__).parents[1] / "kernels" / "neuron.c"
    command = [need("aarch64-linux-gnu-gcc"), "-O3", "-mcpu=cortex-a76", "-w", "-S", "-o", "-",
               f"-I{shipped('firmware') / 'kernels'}", str(source)]
    return mca.regions(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
