"""A spike program in float32, in the form that XNNPACK takes as one delegate.

The numbers are the integers of the program, so that float32 is exact while every sum stays below
2**24 (only membranes are scaled, which rounds otherwise). Neurons are clamps, exact for integers;
steps are slices; attention is bmm on 3 dimensions: comparisons, selections and casts would each end
the delegate. Values are [T, C, H, W], spikes and levels alike, or [1, C, H, W] where every step has
the same.
"""

from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgesvit.errors import UsageError
from edgesvit.lower.executorch.export import groups
from edgesvit.lower.lines import line
from edgesvit.program.ops import (
    Add,
    Classify,
    Conv,
    DepthwiseConv,
    Fire,
    HadamardAttention,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    TokenAttention,
    inputs,
)


class FloatProgram(nn.Module):
    """The operators of a program on float32; the image is its uint8 numbers as float [H, W, C].

    The `twin` is a conventional network of the same shape: one pass, ReLU6 where neurons fire.
    Raises UsageError for operators that choose tokens.
    """

    def __init__(self, program: Program, twin: bool = False):
        super().__init__()
        self._spikes = program
        self.steps = 1 if twin else program.time_steps
        self._groups = [some for _, ops in groups(program) for some in _alike(program, ops)]
        self.layers = nn.ModuleList(_layer(_one(ops), program, self.steps, twin)
                                    for ops in self._groups)

    def forward(self, image: Tensor) -> Tensor:
        """Logits float32 [classes], in the units of the program's."""
        frames = image.reshape(-1, *image.shape[-3:])[:self.steps]
        values = {self._spikes.input.name: frames.permute(0, 3, 1, 2).contiguous()}
        for ops, layer in zip(self._groups, self.layers, strict=True):
            made, at = layer(*(values[name] for name in inputs(ops[0]))), 0
            for op in ops:
                values[op.output] = made if len(ops) == 1 else made[:, at:at + op.channels]
                at += getattr(op, "channels", 0)
        return values[self._spikes.output.name].reshape(-1)


def _alike(program: Program, ops: tuple[Op, ...]) -> list[tuple[Op, ...]]:
    """Siblings that can be one layer, or each alone."""
    kinds = {(program.value(op.output).kind, program.value(op.output).max_level) for op in ops}
    one = len(kinds) == 1 and getattr(ops[0], "scale", None) is None
    return [ops] if one else [(op,) for op in ops]


def _one(ops: tuple[Op, ...]) -> Op:
    """Siblings, which read the same, as one convolution with the channels of all."""
    if len(ops) == 1:
        return ops[0]
    joined = {name: np.concatenate([getattr(op, name) for op in ops], -1)
              for name in ("weight", "bias", "threshold", "certified")
              if getattr(ops[0], name) is not None}
    return replace(ops[0], **joined)


def _layer(op: Op, program: Program, steps: int, twin: bool) -> nn.Module:
    match op:
        case Conv():
            return _Convolution(op, program, steps, twin)
        case Fire():
            return _Fire(op, program.value(op.output).kind, program.value(op.input).tokens, steps,
                         twin)
        case MaxPool():
            return nn.MaxPool2d(op.kernel, op.stride, op.pad)
        case Add():
            return _Add()
        case SelfAttention() | TokenAttention():
            return _Attention(op, steps, twin)
        case HadamardAttention() if not op.heads:
            return _Hadamard(op, program.value(op.query).tokens, steps, twin)
        case Classify():
            return _Classify(op, program.value(op.input).tokens, steps)
        case _:
            raise UsageError(f"XNNPACK has no form of {type(op).__name__}", "--runtime executorch")


def _constant(module: nn.Module, name: str, value: np.ndarray | float) -> None:
    """A number for each channel, or one for all, as [1, C, 1, 1]: only what has four dimensions can
    change its layout, and without that XNNPACK transposes all that it meets."""
    numbers = torch.tensor(np.asarray(value, np.float32))
    module.register_buffer(name, numbers.reshape(1, -1, 1, 1))


class _Neuron(nn.Module):
    """Currents [T, C, H, W] to spikes (LIF), or to levels by the number of thresholds reached.

    Currents come multiplied by `unit`: LIF takes halves, as v = floor(v / 2 + current / 2).
    `short` is -1/2 where a neuron does not fire, else 0: the spike is 2 short + 1, and half the
    membrane that stays -v * short.
    """

    def __init__(self, kind: Kind, threshold: np.ndarray | int, steps: int, twin: bool):
        super().__init__()
        rows = np.atleast_2d(np.asarray(threshold, np.float64))  # [D, C]
        self.steps, self.twin, self.lif = steps, twin, kind == Kind.SPIKES
        self.unit, self.count = 0.5 if self.lif else 1.0, len(rows)
        if twin:
            self.unit = float(1 / max(np.abs(rows).mean(), 1))
            return
        found = None if self.lif else line(rows)
        self.linear = found is not None
        # One buffer each: taking one out of many would end the delegate.
        named = (zip(("slope", "offset"), found, strict=True) if self.linear else
                 ((f"threshold{i}", row) for i, row in enumerate(rows)))
        for name, row in named:
            _constant(self, name, row)
        for name, number in (("one", 1.0), ("two", 2.0)):
            _constant(self, name, number)

    def forward(self, current: Tensor) -> Tensor:
        """T steps of spikes, or as many of levels as there are of currents."""
        if self.twin:
            return functional.relu6(current)
        if self.lif:
            return self._fired(current)
        if self.linear:
            reached = torch.floor(current * self.slope + self.offset)
            return torch.clamp(reached, 0.0, float(self.count))
        current = torch.floor(current) + self.one
        return _added([torch.clamp(current - getattr(self, f"threshold{i}"), 0.0, 1.0)
                       for i in range(self.count)])

    def _fired(self, current: Tensor) -> Tensor:
        spent, short = None, []  # half the membrane that stays, negative
        for t in range(self.steps):
            step = current if current.shape[0] == 1 else current[t:t + 1]
            membrane = torch.floor(step if spent is None else step - spent)
            short.append(torch.clamp(membrane - self.threshold0, -0.5, 0.0))
            if t + 1 < self.steps:
                spent = membrane * short[-1]
        return (torch.cat(short) if self.steps > 1 else short[0]) * self.two + self.one


class _Rescale(nn.Module):
    """Currents to membranes: times the scale, rounded half up, added to the stream, clamped."""

    def __init__(self, op: Conv, largest: int, twin: bool):
        super().__init__()
        scale = op.scale.astype(np.float64) / 2.0 ** op.shift
        _constant(self, "scale", scale)
        _constant(self, "up", 0.5)
        self.largest, self.twin = float(largest), twin

    def forward(self, current: Tensor, stream: Tensor | None = None) -> Tensor:
        if self.twin:  # its scale is in the weights
            return current if stream is None else current + stream
        scaled = torch.floor(current * self.scale + self.up)
        scaled = scaled if stream is None else scaled + stream
        return torch.clamp(scaled, -self.largest, self.largest)


class Window(nn.Conv2d):
    """A convolution in the form that it is exported in: taking it apart costs one more pass."""

    def forward(self, x: Tensor) -> Tensor:
        """[T, C, H, W]."""
        return torch.ops.aten.convolution.default(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, False, [0, 0],
            self.groups)


class _Convolution(nn.Module):
    """A convolution, max-pooling of its currents, and what follows them."""

    def __init__(self, op: Conv, program: Program, steps: int, twin: bool):
        super().__init__()
        weight, groups = op.weight.astype(np.float32), 1
        taps = weight.reshape(op.kernel, op.kernel, -1, op.channels)  # [k, k, C_in, C_out]
        bias = op.bias.astype(np.float64)
        if isinstance(op, DepthwiseConv):
            groups = op.channels
        grey = getattr(op, "pad_pixel", None)
        if grey is not None:  # read outside: subtracted here, put back into the bias
            bias = bias + (taps.sum((0, 1)) * grey.astype(np.float64)[:, None]).sum(0)
            _constant(self, "grey", grey)
        self.conv = Window(taps.shape[2] * groups, op.channels, op.kernel, op.stride, op.pad,
                           groups=groups)
        self.conv.weight.data = torch.from_numpy(taps.transpose(3, 2, 0, 1).copy())
        self.conv.bias.data = torch.from_numpy(bias.astype(np.float32))
        pool = getattr(op, "pool", 0)
        self.pool = nn.MaxPool2d(pool, op.pool_stride, pool // 2) if pool else nn.Identity()
        out = program.value(op.output)
        self.after = (_Rescale(op, out.max_level, twin) if out.kind == Kind.MEMBRANE
                      else _Neuron(out.kind, op.threshold, steps, twin))
        if isinstance(self.after, _Neuron):
            self._times(self.after.unit)
        elif twin:
            self._times(self.after.scale)

    def _times(self, gain: float | Tensor) -> None:
        """Multiply what the convolution gives."""
        self.conv.weight.data *= torch.as_tensor(gain).reshape(-1, 1, 1, 1)
        self.conv.bias.data *= torch.as_tensor(gain).reshape(-1)

    def forward(self, source: Tensor, *stream: Tensor) -> Tensor:
        current = self.conv(source - self.grey if hasattr(self, "grey") else source)
        return self.after(self.pool(current), *stream)


class _Fire(nn.Module):
    """Neurons on a membrane stream."""

    def __init__(self, op: Fire, kind: Kind, tokens: int, steps: int, twin: bool):
        super().__init__()
        self.neuron = _Neuron(kind, op.threshold, steps, twin)
        self.tokens = tokens if op.over_tokens else 0
        _constant(self, "unit", self.neuron.unit)

    def forward(self, membrane: Tensor) -> Tensor:
        membrane = _token_sum(membrane, self.tokens) if self.tokens else membrane
        return self.neuron(membrane if self.neuron.unit == 1 else membrane * self.unit)


class _Add(nn.Module):
    def forward(self, stream: Tensor, branch: Tensor) -> Tensor:
        return stream + branch


class _Attention(nn.Module):
    """Self-attention as q (k^T v), or token attention: keys of the tokens whose neuron fires."""

    def __init__(self, op: SelfAttention | TokenAttention, steps: int, twin: bool):
        super().__init__()
        levels = getattr(op, "level_thresholds", ())
        thresholds = np.array(levels, np.float32)[:, None] if levels else op.threshold
        kind = Kind.LEVELS if levels else Kind.SPIKES
        self.neuron = _Neuron(kind, thresholds, steps, twin)
        self.heads, self.gain = op.heads, float(1 << op.shift) * self.neuron.unit

    def forward(self, query: Tensor, key: Tensor, value: Tensor | None = None) -> Tensor:
        steps, _, height, width = query.shape
        # `reshape` of what is not contiguous would cost every lowering one more pass.
        q, k = (x.contiguous().reshape(steps * self.heads, -1, height * width)
                for x in (query, key))
        if value is None:
            by_token = q.permute(0, 2, 1).reshape(len(q), height * width, -1, 1)
            fires = self.neuron(_token_sum(by_token, q.shape[1]).reshape(
                steps, self.heads, height, width) * self.gain)
            passed = fires.reshape(steps * self.heads, 1, -1) * k
            return passed.reshape(steps, -1, height, width)
        v = value.contiguous().reshape(steps * self.heads, -1, height * width)
        mixed = torch.bmm(torch.bmm(v, k.permute(0, 2, 1)), q)  # [T * heads, d_v, N]
        return self.neuron(mixed.reshape(steps, -1, height, width) * self.gain)


class _Hadamard(nn.Module):
    """A channel's queries pass where the neuron of its coincidences fires."""

    def __init__(self, op: HadamardAttention, tokens: int, steps: int, twin: bool):
        super().__init__()
        self.neuron = _Neuron(Kind.SPIKES, op.threshold, steps, twin)
        self.tokens, self.gain = tokens, float(1 << op.shift) * self.neuron.unit

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return query * self.neuron(_token_sum(key * value, self.tokens) * self.gain)


class _Classify(nn.Module):
    """Sum over tokens and steps, then a linear layer."""

    def __init__(self, op: Classify, tokens: int, steps: int):
        super().__init__()
        self.tokens, self.steps, self.gain = tokens, steps, float(2.0 ** -op.shift)
        self.linear = nn.Linear(*op.weight.shape)
        self.linear.weight.data = torch.from_numpy(op.weight.T.astype(np.float32))
        self.linear.bias.data = torch.from_numpy(op.bias.astype(np.float32) / self.gain)

    def forward(self, source: Tensor, stream: Tensor | None = None) -> Tensor:
        sums = _token_sum(source, self.tokens)
        frames = sums.shape[0]
        total = sums * float(self.steps) if frames == 1 else _added(
            [sums[t:t + 1] for t in range(frames)])
        scores = self.linear(total.reshape(1, -1)) * self.gain
        return scores if stream is None else scores + stream


def _added(terms: list[Tensor]) -> Tensor:
    """Their sum; Python's own begins with an integer, which ends the delegate."""
    return reduce(torch.add, terms)


def _token_sum(x: Tensor, tokens: int) -> Tensor:
    """[T, C, H, W] of integers -> [T, C, 1, 1]. XNNPACK has means of two axes, and no sums."""
    total = x.mean((2, 3), True) * float(tokens)
    return total if tokens & (tokens - 1) == 0 else torch.floor(total + 0.5)
