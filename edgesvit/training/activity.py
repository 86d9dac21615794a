"""How often a model fires while it trains: spikes cost a board work, training may avoid them."""

import torch
from torch import Tensor, nn

from edgesvit.models.integer_lif import IntegerLif
from edgesvit.models.lif import Lif


class Activity:
    """Listens to all neurons of a model; `rate` is differentiable through their surrogates."""

    def __init__(self, model: nn.Module):
        self.fired: list[Tensor] = []
        self.neurons = 0
        for module in model.modules():
            if isinstance(module, Lif | IntegerLif):
                module.register_forward_hook(self._heard)

    def _heard(self, module: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        if torch.is_grad_enabled():
            self.fired.append(spikes.float().sum())
            self.neurons += spikes.numel()

    def rate(self) -> Tensor:
        """Spikes a neuron and step since the last call, the mean over all neurons and images."""
        rate = torch.stack(self.fired).sum() / self.neurons
        self.fired, self.neurons = [], 0
        return rate
