"""The moving average of the weights, and batch-norm statistics that belong to it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgesvit.training.statistics import measure_statistics

STATISTICS_BATCHES = 50


class WeightAverage:
    """Parameters averaged over about 1 / (1 - decay) steps; buffers are not averaged.

    The decay rises as (1 + n) / (10 + n) with step n, so that the first weights are soon forgotten:
    without that, a fifth of the average is still the random start after 1.6 / (1 - decay) steps.
    """

    def __init__(self, decay: float):
        self.decay, self.steps = decay, 0
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights behind one more step."""
        named = dict(model.named_parameters())
        if not self.values:
            self.values = {name: p.detach().clone() for name, p in named.items()}
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.values.values()),
                             [named[name].detach() for name in self.values], 1 - decay)

    def state(self) -> dict:
        return {"steps": self.steps, "values": self.values}

    def load(self, state: dict) -> None:
        self.steps, self.values = state["steps"], state["values"]


def averaged(model: nn.Module, average: WeightAverage, batches: Iterable[Tensor],
             forward: nn.Module | None = None) -> None:
    """Give `model` the averaged weights and the batch statistics of those weights.

    The running statistics of a training belong to its last weights. `forward` computes with the
    model's weights as in the training (default: the model itself).
    """
    model.load_state_dict(average.values, strict=False)
    measure_statistics(model, batches, forward)
