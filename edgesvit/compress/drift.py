"""How far rounded weights move the membranes: a look at a setting before its accuracy is judged.

The proxy of post-training quantisation of spiking transformers (AQ4SViT, arXiv 2606.15523): the
relative distance of the rounded model's membrane potentials from the float model's, as the mean
over all layers of neurons.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.data import normalise
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.models.integer_lif import IntegerLif
from edgesvit.models.lif import Lif
from edgesvit.run_folder import ModelCard
from edgesvit.training.fake_quantize import FakeQuantized

IMAGES = 64


class Drift:
    """Compares widths of one model on a few images uint8 [n, H, W, C]."""

    def __init__(self, card: ModelCard, weights: Mapping[str, np.ndarray], images: np.ndarray):
        self.card, self.model = card, model_from_arrays(card.config, weights)
        self.images = torch.from_numpy(normalise(images[:IMAGES], card.mean, card.std))
        self.seen: list[Tensor] = []
        for module in self.model.modules():
            if isinstance(module, Lif | IntegerLif):
                module.register_forward_pre_hook(self._note)
        self.reference = self._membranes(self.model)

    def __call__(self, layer_bits: Mapping[str, int]) -> float:
        """Mean over layers of ||V_rounded - V|| / ||V||; others have the card's widths."""
        rounded = FakeQuantized(self.model, self.card.std, self.card.weight_bits,
                                self.card.layer_bits | layer_bits).eval()
        moved = [float((ours - exact).norm() / exact.norm().clamp_min(1e-12))
                 for ours, exact in zip(self._membranes(rounded), self.reference, strict=True)]
        return float(np.mean(moved))

    def _note(self, neuron: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        currents = inputs[0]
        if isinstance(neuron, IntegerLif):  # has no membrane: what it rounds stands for it
            self.seen.append(currents.clamp(0, neuron.levels))
        else:
            self.seen.append(membranes(currents, neuron.threshold))

    def _membranes(self, model: nn.Module) -> list[Tensor]:
        self.seen = []
        with torch.inference_mode():
            model(self.images)
        return self.seen


def membranes(currents: Tensor, threshold: float) -> Tensor:
    """The membrane before each reset, [T, ...]: the neuron of `edgesvit.models.lif`."""
    carried, seen = torch.zeros_like(currents[0]), []
    for current in currents:
        h = (carried + current) / 2
        seen.append(h)
        carried = torch.where(h >= threshold, 0.0, h)
    return torch.stack(seen)
