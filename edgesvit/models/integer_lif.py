"""The integer neuron of SDT-V3: no membrane, no threshold, only a level from 0 to D."""

from typing import Literal

import torch
from torch import Tensor, nn

Rounding = Literal["even", "up"]


class IntegerLif(nn.Module):
    """Currents of any shape to round(clamp(x, 0, D)) / D, or to the bare level 0..D.

    Model_Base rounds halves to the even neighbour (0.5 to 0, 1.5 to 2, 2.5 to 2), Model_Large
    rounds them up (2.5 to 3). `divided` is False for the classifier's neuron only. Backward is
    straight through where x lies in the clamp's range: 0 and D included for "even", excluded for
    "up". On spiking hardware a level k is k spikes in D slots of one time step.
    """

    def __init__(self, levels: int, rounding: Rounding, divided: bool = True):
        super().__init__()
        self.levels = levels
        self.rounding: Rounding = rounding
        self.divisor = levels if divided else 1

    def forward(self, currents: Tensor) -> Tensor:
        return _RoundFunction.apply(currents, self.levels, self.rounding == "up") / self.divisor

    def extra_repr(self) -> str:
        return f"levels={self.levels}, rounding={self.rounding}, divisor={self.divisor}"


class _RoundFunction(torch.autograd.Function):
    """Currents to levels; the backward keeps one bool a value, not the current."""

    @staticmethod
    def forward(ctx, currents: Tensor, levels: int, half_up: bool) -> Tensor:
        if half_up:
            ctx.save_for_backward((currents > 0) & (currents < levels))
            return currents.clamp(0, levels).add_(0.5).floor_()
        ctx.save_for_backward((currents >= 0) & (currents <= levels))
        return currents.clamp(0, levels).round_()  # torch rounds halves to even

    @staticmethod
    def backward(ctx, grad_levels: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grad_levels * inside, None, None
