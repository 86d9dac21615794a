"""Float models that compute with the weights an integer program would have.

Rounding is that of `edgesvit.program.build`: symmetric, half to even, one scale per output channel,
one for the whole classifier. A batch norm scales whole output channels, so rounding the bare
weight rounds the folded one alike. What a program folds into the *inputs* of a layer changes the
largest weight of a channel and is multiplied in first: 1 / std of the pixels, and the units of the
membranes between layers that no neuron separates (SDT-V2).
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgesvit.batches import evaluate
from edgesvit.data import Dataset
from edgesvit.models.rep_conv import RepConv
from edgesvit.models.sdt_v2 import SepConv
from edgesvit.program.build.emitter import DEVIATIONS, TINY

HEADS = ("head.weight", "head_kd.weight")


class FakeQuantized(nn.Module):
    """Any family's model that computes with rounded weights and learns, straight through, its own.

    The model inside keeps its float weights and their names. `std` are the pixels' deviations.
    Weights are rounded to `bits`, those of the layers (module names) in `layer_bits` to theirs.
    """

    def __init__(self, model: nn.Module, std: Sequence[float], bits: int,
                 layer_bits: Mapping[str, int] | None = None):
        super().__init__()
        self.model, self.std = model, tuple(std)
        self.bits, self.layer_bits = bits, layer_bits or {}
        layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
        self.names = [f"{name}.weight" for name, module in model.named_modules()
                      if isinstance(module, layers) and f"{name}.weight" not in HEADS]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return functional_call(self.model, self.rounded(), (images,))

    def rounded(self) -> dict[str, Tensor]:
        """The weights that take part in a forward, by name, with gradients to the float ones."""
        weights = dict(self.model.named_parameters())
        with torch.no_grad():
            units = dict(self.input_units())
            errors = {name: self._channel_error(name, weights[name], units.get(name))
                      for name in self.names} | self._head_errors(weights)
        return {name: weights[name] + error for name, error in errors.items()}

    def _top(self, name: str) -> int:
        """The largest integer of a tensor's weights."""
        return 2 ** (self.layer_bits.get(name.removesuffix(".weight"), self.bits) - 1) - 1

    def _channel_error(self, name: str, weight: Tensor, unit: Tensor | None) -> Tensor:
        """What rounding adds to weight [C, ...]; `unit` [C_in] multiplies its inputs."""
        top = self._top(name)
        if unit is None:
            return _rounding_error(weight, weight.abs().flatten(1).amax(1), top)
        unit = unit.view(-1, *(1,) * (weight.ndim - 2))
        scaled = weight * unit
        return _rounding_error(scaled, scaled.abs().flatten(1).amax(1), top) / unit

    def _head_errors(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The program adds up the classifiers and rounds the sum: each bears its share."""
        heads = [name for name in HEADS if name in weights]
        total = sum(weights[name] for name in heads)
        error = _rounding_error(total, total.abs().amax(), self._top(heads[0])) / len(heads)
        return {name: error for name in heads}

    def input_units(self) -> Iterator[tuple[str, Tensor]]:
        """What a program multiplies into the inputs of a layer [C_in], up to a common factor."""
        first = self.names[0]  # of all families the layer that reads the image
        weight = self.model.get_parameter(first)
        yield first, 1 / torch.tensor(self.std, device=weight.device, dtype=weight.dtype)
        for name, module in self.model.named_modules():
            if isinstance(module, SepConv):
                yield f"{name}.pwconv2.weight", _reach_of_spikes(module.dwconv)
            elif isinstance(module, RepConv):
                yield f"{name}.body.2.1.weight", _reach_inside(module)


def fake_quantized_accuracy(model: nn.Module, dataset: Dataset, bits: int = 8,
                            layer_bits: Mapping[str, int] | None = None) -> float:
    """The share of `dataset` that a float model gets right with weights of these widths, 0..1.

    `dataset` carries the mean and std of the model's card. Between this and the accuracy of the
    integer program lie only the rounding of biases and thresholds and the membranes' integer steps.
    """
    return evaluate(FakeQuantized(model, dataset.std, bits, layer_bits), dataset)


def _rounding_error(weight: Tensor, largest: Tensor, top: int) -> Tensor:
    """round(w / s) s - w, with s the largest weight (a number, or one a channel) over `top`."""
    # A channel of zeros has no scale and no error either.
    scale = (largest / top).clamp_min(torch.finfo(weight.dtype).tiny)
    scale = scale.view(-1, *(1,) * (weight.ndim - 1))
    return (weight / scale).round_().mul_(scale).sub_(weight)


def _reach_of_spikes(depthwise: nn.Conv2d) -> Tensor:
    """The largest current [C] that a depth-wise layer makes of spikes."""
    return _positive(depthwise.weight.abs().flatten(1).sum(1))


def _reach_inside(rep_conv: RepConv) -> Tensor:
    """The largest number [C] that reaches the last layer of a chain of three."""
    pointwise, padding, (depthwise, _, _) = rep_conv.body
    bn = padding.bn
    deviation = (bn.running_var + bn.eps).sqrt()
    reach = torch.minimum(bn.running_mean.abs() + DEVIATIONS * deviation,
                          pointwise.weight.abs().flatten(1).sum(1))
    scale = bn.weight / deviation
    bias = bn.bias - bn.running_mean * scale
    window = depthwise.weight.flatten(1)
    return _positive((window * scale[:, None]).abs().sum(1) * reach + (bias * window.sum(1)).abs())


def _positive(reach: Tensor) -> Tensor:
    return reach.clamp_min(TINY)  # a channel that is always 0 has some unit all the same
