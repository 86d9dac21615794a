"""Rounding weights so that the errors of one layer cancel in its currents.

A program rounds each weight to the nearest of its width. Nearest is not best for the sum that a
neuron sees: inputs of spiking layers fire together, and what one weight loses, others that fire
with it can carry. Column by column the rounding error is spread over the columns that are still to
come, as the second moments of the inputs say (optimal brain surgeon; in this order of columns
GPTQ, arXiv 2210.17323), and the scale of each channel is the one that costs least rather than the
one its largest weight needs. No label is read and nothing is trained.

The rounded weights are numbers on the grid that a program finds by itself, so nothing but the
weights of a model changes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgesvit.batches import normalised
from edgesvit.compress.channels import prune
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.run_folder import ModelCard
from edgesvit.threads import one_torch_thread
from edgesvit.training.fake_quantize import HEADS, FakeQuantized

BATCH = 32  # images
ROWS = 2048  # inputs of a layer that are looked at, of each batch
DAMPING = 0.01  # of the mean second moment, on the diagonal
BLOCK = 64  # columns whose errors reach the rest in one product
# Scales are tried from the one that clips no weight down to one that clips from a third on.
SHARES = np.linspace(1, 0.35, 14).tolist()


class Rounder:
    """Rounds layers of one model, and of what is made of it, by what reaches them of some images.

    `images` are uint8 [n, H, W, C]; smaller models are taken to see what this one does. Classifiers
    are left as they are: a program adds them up and rounds the sum to nearest.
    """

    def __init__(self, card: ModelCard, weights: Mapping[str, np.ndarray], images: np.ndarray):
        self.card, self.weights = card, weights
        model = model_from_arrays(card.config, weights).eval()
        layers = {name: module for name, module in model.named_modules()
                  if _can_be_rounded(name, module)}
        with one_torch_thread(), torch.inference_mode():
            self._moments = _moments(model, layers, card, images)
        units = FakeQuantized(model, card.std, card.weight_bits).input_units()
        self._scaled = {name for name, _ in units}
        self._places = {name: np.arange(array.size).reshape(array.shape)
                        for name, array in weights.items() if array.ndim > 1}
        self._known: dict[tuple[str, int, bytes, bytes], Tensor] = {}

    def __call__(self, card: ModelCard, weights: Mapping[str, np.ndarray],
                 kept: Mapping[str, Sequence[int]], bits: Mapping[str, int]
                 ) -> dict[str, np.ndarray]:
        """The `weights` of `card`, those of the layers in `bits` on the grids of these widths.

        They are this model's, but for the channels that are not `kept` (compress.channels.prune)
        and for batch norms.
        """
        _, places = prune(self.card.config, self._places, kept)
        names = {layer: f"{layer}.weight" for layer in self._moments if layer in bits}
        made, model = dict(weights), None
        if self._scaled & set(names.values()):  # units follow from a whole model
            model = model_from_arrays(card.config, weights)
            units = FakeQuantized(model, card.std, card.weight_bits).input_units
        with one_torch_thread(), torch.no_grad():
            # As data flows: a unit may follow from the weights of layers before.
            for layer, name in names.items():
                unit = dict(units())[name] if name in self._scaled else None
                rounded = self._rounded(layer, bits[layer], places[name], unit)
                made[name] = rounded.numpy()
                if model is not None:
                    model.get_submodule(layer).weight.copy_(rounded)
        return made

    def _rounded(self, layer: str, bits: int, places: np.ndarray, unit: Tensor | None) -> Tensor:
        """The weights of a layer that stand at these places in this model's."""
        whole = torch.tensor(self.weights[f"{layer}.weight"]).double().flatten(1)
        place = torch.from_numpy(places).flatten(1)
        rows, columns = place[:, 0] // whole.shape[1], place[0] % whole.shape[1]
        each = torch.ones(1) if unit is None else unit.repeat_interleave(
            len(columns) // len(unit))
        asked = layer, bits, columns.numpy().tobytes(), each.numpy().tobytes()
        if asked not in self._known:  # of all rows, which do not depend on each other
            each = each.double()
            moments = self._moments[layer][:, columns][:, :, columns].double()
            groups = (whole[:, columns] * each).unflatten(0, (len(moments), -1))
            self._known[asked] = (compensated(groups, bits, moments / each / each[:, None])
                                  / each).flatten(0, 1).float()
        return self._known[asked][rows].reshape(places.shape)


def compensated(weight: Tensor, bits: int, moments: Tensor) -> Tensor:
    """Weight [..., C, K] in multiples of a scale a row, at most 2**(bits - 1) - 1 of them.

    `moments` [..., K, K] are the second moments of the inputs; both float64. Every row reaches that
    many, or stays as it is: the grid is to be seen in the weights.
    """
    top = 2 ** (bits - 1) - 1
    power = moments.diagonal(dim1=-2, dim2=-1)
    order = power.argsort(descending=True, stable=True)[..., None, :]
    columns = order.expand_as(weight)
    left, scale = weight.gather(-1, columns), _scales(weight, top, power)
    ordered = moments.gather(-1, order.expand_as(moments)).gather(-2, order.mT.expand_as(moments))
    ordered.diagonal(dim1=-2, dim2=-1).add_(DAMPING * power.mean(-1, keepdim=True))
    factor = _inverse_factor(ordered)
    steps = torch.zeros_like(left)
    for begin in range(0, weight.shape[-1], BLOCK):
        end = min(begin + BLOCK, weight.shape[-1])
        errors = torch.zeros_like(left[..., begin:end])
        for k in range(begin, end):
            steps[..., k] = (left[..., k] / scale).round().clamp(-top, top)
            error = (left[..., k] - steps[..., k] * scale) / factor[..., k, k, None]
            left[..., k:end] -= error[..., None] * factor[..., k, None, k:end]
            errors[..., k - begin] = error
        left[..., end:] -= errors @ factor[..., begin:end, end:]
    found = torch.empty_like(left).scatter_(-1, columns, steps * scale[..., None])
    return torch.where(steps.abs().amax(-1, keepdim=True) == top, found, weight)


def _inverse_factor(matrix: Tensor) -> Tensor:
    """The upper triangle U with U^T U = matrix^-1, of a positive definite matrix [..., K, K]."""
    upper = torch.linalg.cholesky(matrix.flip(-2, -1)).flip(-2, -1)  # upper upper^T = matrix
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype).expand_as(matrix)
    return torch.linalg.solve_triangular(upper, unit, upper=True)


def _scales(weight: Tensor, top: int, power: Tensor) -> Tensor:
    """The scale [..., C] with the least error of rounding to nearest, columns weighted by `power`.

    Of weight [..., C, K] and power [..., K].
    """
    widest = (weight.abs().amax(-1) / top).clamp_min(torch.finfo(torch.float64).tiny)
    best, least = widest, torch.full_like(widest, torch.inf)
    for share in SHARES:
        scale = share * widest
        steps = (weight / scale[..., None]).round_().clamp_(-top, top)
        lost = (((steps * scale[..., None] - weight) ** 2) @ power[..., None]).squeeze(-1)
        best = torch.where(lost < least, scale, best)
        least = torch.minimum(lost, least)
    return best


def _can_be_rounded(name: str, module: nn.Module) -> bool:
    layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return isinstance(module, layers) and f"{name}.weight" not in HEADS


def _moments(model: nn.Module, layers: Mapping[str, nn.Module], card: ModelCard,
             images: np.ndarray) -> dict[str, Tensor]:
    """The mean of x x^T over a sample of the inputs x [K] of each layer's products.

    [G, K, K] for the G groups of channels of a layer, most have one.
    """
    random = np.random.default_rng(0)
    total = dict.fromkeys(layers, 0.0)

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            groups = _sample(module, inputs[0], random)
            total[name] += groups.mT @ groups / ROWS
        return note

    hooks = [module.register_forward_pre_hook(look(name)) for name, module in layers.items()]
    for i in range(0, len(images), BATCH):
        model(normalised(torch.from_numpy(images[i : i + BATCH].copy()), card.mean, card.std))
    for hook in hooks:
        hook.remove()
    batches = -(-len(images) // BATCH)
    return {name: moments / batches for name, moments in total.items()}


def _sample(layer: nn.Module, x: Tensor, random: np.random.Generator) -> Tensor:
    """ROWS of the inputs that a layer multiplies with its weights [C, K]: [G, ROWS, K]."""
    if not isinstance(layer, nn.Conv2d):
        rows = x.movedim(1, -1) if isinstance(layer, nn.Conv1d) else x  # of kernel 1
        rows = rows.flatten(0, -2)
        return rows[torch.from_numpy(random.integers(len(rows), size=ROWS))][None]
    (height, width), (down, right), (top, left) = layer.kernel_size, layer.stride, layer.padding
    x = functional.pad(x, (left, left, top, top))
    ends = len(x), (x.shape[2] - height) // down + 1, (x.shape[3] - width) // right + 1
    image, y, z = (torch.from_numpy(random.integers(end, size=(ROWS, 1, 1))) for end in ends)
    windows = x[image, :, down * y + torch.arange(height).view(1, -1, 1),
                right * z + torch.arange(width).view(1, 1, -1)]  # [ROWS, height, width, C]
    return windows.movedim(-1, 1).reshape(ROWS, layer.groups, -1).movedim(1, 0)
