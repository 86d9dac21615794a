"""Convolutions and linear layers of a network in int8, as XNNPACK takes them.

In the form that PT2E quantization leaves behind: pairs of quantize and dequantize around each
layer, int8 weights with a scale for each output channel. Written down at once it takes a tenth of
the time, and what is whole numbers stays so: spikes, levels and pixels have scale 1.
"""

import numpy as np
import torch

# Registers torch.ops.quantized_decomposed.
from executorch.exir.passes import _quant_patterns_and_replacements  # noqa: F401
from torch import Tensor, nn

_LOW, _HIGH = -128, 127
_STEPS = (1.0, 0.5)  # of weights that are integers, and of halved ones


class _Seen:
    """The range of what a tensor held."""

    def __init__(self) -> None:
        self.low = self.high = 0.0  # zero is always among them: padding
        self.whole = True

    def see(self, x: Tensor) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        self.whole = self.whole and bool((x == x.round()).all())

    def scale_and_zero(self) -> tuple[float, int]:
        """scale, and the integer that stands for 0."""
        span = self.high - self.low
        scale = 1.0 if self.whole and span <= 255 else max(span / 255, 2.0 ** -12)
        return scale, int(np.clip(round(_LOW - self.low / scale), _LOW, _HIGH))


class _Int8(nn.Module):
    """A convolution or linear layer in int8."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, given: _Seen, made: _Seen):
        super().__init__()
        weight, self.bias = layer.weight.data, layer.bias
        rows = weight.reshape(len(weight), -1)
        scale = torch.clamp(rows.abs().amax(1) / 127, min=2.0 ** -12)
        for step in _STEPS:
            exact = ((rows / step).round() == rows / step).all(1) & (scale <= step)
            scale = torch.where(exact, torch.full_like(scale, step), scale)
        shape = (-1, *[1] * (weight.dim() - 1))
        self.register_buffer("weight", (weight / scale.reshape(shape)).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int64))
        self.given, self.made = given.scale_and_zero(), made.scale_and_zero()
        self.window = ((layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups)
                       if isinstance(layer, nn.Conv2d) else ())

    def forward(self, x: Tensor) -> Tensor:
        """Of float and to float: quantized in between."""
        weight = torch.ops.quantized_decomposed.dequantize_per_channel.default(
            self.weight, self.scale, self.zero, 0, -127, 127, torch.int8)
        compute = (torch.ops.aten.convolution.default if self.window  # as floats.Window
                   else nn.functional.linear)
        return _rounded(compute(_rounded(x, self.given), weight, self.bias, *self.window),
                        self.made)


def _rounded(x: Tensor, to: tuple[float, int]) -> Tensor:
    form = (*to, _LOW, _HIGH, torch.int8)
    stored = torch.ops.quantized_decomposed.quantize_per_tensor.default(x, *form)
    return torch.ops.quantized_decomposed.dequantize_per_tensor.default(stored, *form)


def quantize(network: nn.Module, images: np.ndarray) -> None:
    """Put int8 layers in place of all convolutions and linear layers of `network`.

    Scales are chosen by the least and the largest number seen for `images` uint8 [n, H, W, C].
    """
    layers = {name: layer for name, layer in network.named_modules()
              if isinstance(layer, nn.Conv2d | nn.Linear)}
    seen = {name: (_Seen(), _Seen()) for name in layers}

    def watch(name: str) -> callable:
        def hook(_: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
            for range_, x in zip(seen[name], (given[0], made), strict=True):
                range_.see(x)
        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    with torch.no_grad():
        for image in images:
            network(torch.from_numpy(image.astype(np.float32)))
    for hook in hooks:
        hook.remove()
    for name, layer in layers.items():
        holder, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(holder), attribute, _Int8(layer, *seen[name]))
