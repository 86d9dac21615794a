"""A spike program in float32, in the form that XNNPACK takes as one delegate.

The numbers are the integers of the program, so that float32 is exact while every sum stays below
2**24 (only membranes are scaled, which rounds otherwise). A spike is clamp(v - (threshold - 1), 0,
1), exact for integers; steps are slices; attention is bmm on 3 dimensions: comparisons, selections
and casts would each end the delegate. Values are [T, C, H, W], spikes and levels alike, or [1, C,
H, W] where every step has the same.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgesvit.errors import UsageError
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
        made = [_layer(op, program, self.steps, twin) for op in program.ops]
        self.layers = nn.ModuleList(made)

    def forward(self, image: Tensor) -> Tensor:
        """Logits float32 [classes], in the units of the program's."""
        frames = image.reshape(-1, *image.shape[-3:])[:self.steps]
        values = {self._spikes.input.name: frames.permute(0, 3, 1, 2)}
        for op, layer in zip(self._spikes.ops, self.layers, strict=True):
            values[op.output] = layer(*(values[name] for name in inputs(op)))
        return values[self._spikes.output.name].reshape(-1)


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


class _Neuron(nn.Module):
    """Currents [T, C, H, W] to spikes (LIF), or to levels by the number of thresholds reached."""

    def __init__(self, kind: Kind, threshold: np.ndarray | int, steps: int, twin: bool):
        super().__init__()
        rows = np.atleast_2d(np.asarray(threshold, np.float32))  # [D, C]
        # One buffer each: taking one out of many would end the delegate.
        self.count = len(rows)
        for i, row in enumerate(rows):
            self.register_buffer(f"below{i}", torch.from_numpy(row - 1)[:, None, None])
        self.steps, self.twin, self.lif = steps, twin, kind == Kind.SPIKES
        self.unit = float(1 / max(np.abs(rows).mean(), 1)) if twin else 1.0  # of a twin's currents

    def forward(self, current: Tensor) -> Tensor:
        """T steps of spikes, or as many of levels as there are of currents."""
        if self.twin:
            return functional.relu6(current)
        if not self.lif:
            current = torch.floor(current)
            return sum(self._reaches(current, i) for i in range(self.count))
        membrane, spikes = None, []
        for t in range(self.steps):
            step = current if current.shape[0] == 1 else current[t:t + 1]
            membrane = torch.floor(0.5 * (step if membrane is None else membrane + step))
            spikes.append(self._reaches(membrane, 0))
            if t + 1 < self.steps:
                membrane = membrane - membrane * spikes[-1]
        return torch.cat(spikes) if self.steps > 1 else spikes[0]

    def _reaches(self, number: Tensor, threshold: int) -> Tensor:
        return torch.clamp(number - getattr(self, f"below{threshold}"), 0.0, 1.0)


class _Rescale(nn.Module):
    """Currents to membranes: times the scale, rounded half up, added to the stream, clamped."""

    def __init__(self, op: Conv, largest: int, twin: bool):
        super().__init__()
        scale = op.scale.astype(np.float64) / 2.0 ** op.shift
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32))[:, None, None])
        self.largest, self.twin = float(largest), twin

    def forward(self, current: Tensor, stream: Tensor | None = None) -> Tensor:
        if self.twin:  # its scale is in the weights
            return current if stream is None else current + stream
        scaled = torch.floor(current * self.scale + 0.5)
        scaled = scaled if stream is None else scaled + stream
        return torch.clamp(scaled, -self.largest, self.largest)


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
            self.register_buffer("grey", torch.from_numpy(grey.astype(np.float32))[:, None, None])
        self.conv = nn.Conv2d(taps.shape[2] * groups, op.channels, op.kernel, op.stride, op.pad,
                              groups=groups)
        self.conv.weight.data = torch.from_numpy(taps.transpose(3, 2, 0, 1).copy())
        self.conv.bias.data = torch.from_numpy(bias.astype(np.float32))
        pool = getattr(op, "pool", 0)
        self.pool = nn.MaxPool2d(pool, op.pool_stride, pool // 2) if pool else nn.Identity()
        out = program.value(op.output)
        self.after = (_Rescale(op, out.max_level, twin) if out.kind == Kind.MEMBRANE
                      else _Neuron(out.kind, op.threshold, steps, twin))
        if twin:
            gain = self.after.scale if out.kind == Kind.MEMBRANE else self.after.unit
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

    def forward(self, membrane: Tensor) -> Tensor:
        return self.neuron(_token_sum(membrane, self.tokens) if self.tokens else membrane)


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
        q, k = (x.reshape(steps * self.heads, -1, height * width) for x in (query, key))
        if value is None:
            fires = self.neuron((q.mean(1, True) * float(q.shape[1] * self.gain)).reshape(
                steps, self.heads, height, width))
            passed = fires.reshape(steps * self.heads, 1, -1) * k
            return passed.reshape(steps, -1, height, width)
        v = value.reshape(steps * self.heads, -1, height * width)
        mixed = torch.bmm(torch.bmm(v, k.transpose(1, 2)), q)  # [T * heads, d_v, N]
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
        total = sums * float(self.steps) if frames == 1 else sum(
            sums[t:t + 1] for t in range(frames))
        scores = self.linear(total.reshape(1, -1)) * self.gain
        return scores if stream is None else scores + stream


def _token_sum(x: Tensor, tokens: int) -> Tensor:
    """[T, C, H, W] -> [T, C, 1, 1]. XNNPACK has means of two axes, and no sums; integers again."""
    return torch.floor(x.mean((2, 3), True) * float(tokens) + 0.5)
