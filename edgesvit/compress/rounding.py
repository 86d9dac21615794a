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

import threading
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgesvit.batches import normalised
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
    """Rounds layers of one model, by what reaches them of `images` uint8 [n, H, W, C].

    `layers` are those to be asked about, all when None. Classifiers are left as they are: a
    program adds them up and rounds the sum to nearest.
    """

    def __init__(self, card: ModelCard, weights: Mapping[str, np.ndarray], images: np.ndarray,
                 layers: Collection[str] | None = None):
        self.weights = weights
        self._model = model_from_arrays(card.config, weights).eval()
        self._units = FakeQuantized(self._model, card.std, card.weight_bits).input_units
        known = dict(self._model.named_modules())
        self._layers = {name: module for name, module in known.items()
                        if (layers is None or name in layers) and _can_be_rounded(name, module)}
        with one_torch_thread(), torch.inference_mode():
            self._moments = _moments(self._model, self._layers, card, images)
        self._known: dict[tuple[str, int, bytes], np.ndarray] = {}
        self._lock = threading.Lock()

    def __call__(self, bits: Mapping[str, int]) -> dict[str, np.ndarray]:
        """All weights of the model, those of the layers in `bits` on the grids of these widths."""
        made = dict(self.weights)
        with self._lock, one_torch_thread(), torch.no_grad():
            for layer, module in self._layers.items():
                module.weight.copy_(torch.tensor(made[f"{layer}.weight"]))
            # As data flows: what a program multiplies into a layer may follow from those before it.
            for layer, module in self._layers.items():
                if layer in bits:
                    weight = self._rounded(layer, bits[layer])
                    module.weight.copy_(torch.tensor(weight))
                    made[f"{layer}.weight"] = weight
        return made

    def _rounded(self, layer: str, bits: int) -> np.ndarray:
        weight = torch.tensor(self.weights[f"{layer}.weight"])
        flat, unit = weight.double().flatten(1), torch.ones(1, dtype=torch.float64)
        for name, of_channel in self._units():
            if name == f"{layer}.weight":
                unit = of_channel.double().repeat_interleave(flat.shape[1] // len(of_channel))
        asked = layer, bits, unit.numpy().tobytes()
        if asked not in self._known:
            moments = self._moments[layer].double() / unit / unit[:, None]
            groups = (flat * unit).unflatten(0, (len(moments), -1))
            on_grid = compensated(groups, bits, moments) / unit
            self._known[asked] = on_grid.reshape(weight.shape).to(weight.dtype).numpy()
        return self._known[asked]


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
