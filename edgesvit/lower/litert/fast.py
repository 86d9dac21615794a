"""A spike program with static int8 layers and float neurons: fast, and not exact.

Spikes and levels are int8 at scale 1, so that every sum is exact; what rounds is the int8 output of
a layer. Currents are in units of each channel's threshold, or of the membrane, through the scales
of the weights, so that one output scale, from the currents of a few images, suits all channels.
"""

import importlib

import numpy as np

from edgesvit.lower.litert.dense import Dense, spread
from edgesvit.lower.litert.integers import Number
from edgesvit.lower.litert.neurons import levels, lif
from edgesvit.lower.litert.writer import Quantized
from edgesvit.program import interpret
from edgesvit.program.ops import (
    Add,
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    Fire,
    HadamardAttention,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    TokenAttention,
)

IMAGES = 16  # that scales are taken from
MOST = 8.0  # thresholds: what a neuron does with more is no different


def fast(program: Program, images: np.ndarray) -> bytes:
    """The .tflite file, its scales from the first of `images`; takes int8 pixels - 128.

    Raises UsageError for operators that have no builtin form.
    """
    return _Fast(program, images[:IMAGES]).file()


def difference(model: bytes, program: Program, images: np.ndarray) -> dict[str, object]:
    """What the int8 outputs change on this machine, on the first of `images`."""
    runtime = importlib.import_module("ai_edge_litert.interpreter")
    it = runtime.Interpreter(model_content=model, num_threads=1)
    it.allocate_tensors()
    source, scores = it.get_input_details()[0], it.get_output_details()[0]
    same, largest = 0, 0.0
    for image in images[:IMAGES]:
        it.set_tensor(source["index"], (image ^ 0x80).view(np.int8).reshape(source["shape"]))
        it.invoke()
        got, exact = it.get_tensor(scores["index"]).reshape(-1), interpret.run(program, image)
        same += int(got.argmax() == exact.argmax())
        largest = max(largest, float(np.abs(got - exact).max() / max(np.abs(exact).max(), 1)))
    return {"same_class": f"{same}/{len(images[:IMAGES])}",
            "largest_difference": round(largest, 4)}


class _Fast(Dense):
    def __init__(self, program: Program, images: np.ndarray):
        super().__init__(program, program.time_steps)
        self.traces = [interpret.trace(program, image) for image in images]

    def scale_of(self, name: str) -> Quantized:
        value = self.program.value(name)
        if value is self.program.input:
            return self.input_scale
        if value.kind == Kind.MEMBRANE:
            return Quantized(max(float(np.abs(t[name]).max()) for t in self.traces) / 127 or 1.0)
        return Quantized(max(1.0, value.max_level / 127))

    def lower(self, op: Op) -> None:
        """Append what `op` computes, neurons included."""
        g = self.g
        match op:
            case Conv():
                self._convolution(op)
            case Fire():
                x = self.float_of(op.input)
                self._fire(op, g.summed(x, [1, 2]) if op.over_tokens else x, op.threshold)
            case MaxPool():
                self.int8[op.output] = g.pooled(self.int8_of(op.input), op,
                                                self.scale_of(op.input))
            case Add():
                self.add(op)
            case SelfAttention() if op.level_thresholds:
                thresholds = np.array(op.level_thresholds)[:, None] / 2**op.shift
                self._fire(op, self.mixed(op), thresholds)
            case SelfAttention():
                self._fire(op, self.mixed(op), op.threshold / 2**op.shift)
            case HadamardAttention():
                both = g.binary("MUL", self.float_of(op.key), self.float_of(op.value))
                sums = g.summed(spread(g, both, op.heads), [1, 2])
                passes = g.binary("MUL", self.float_of(op.query),
                                  self._lif(sums, op.threshold / 2**op.shift))
                self.real[op.output] = spread(g, passes, op.heads)
            case TokenAttention():
                self._token_attention(op)
            case Classify():
                self.classify(op)
            case _:
                self.refuse(op)

    def _convolution(self, op: Conv) -> None:
        """Currents in units of thresholds or membranes, then what follows them."""
        g, out = self.g, self.program.value(op.output)
        membrane = out.kind == Kind.MEMBRANE
        unit = op.scale / 2.0**op.shift if membrane else 1 / _unit(op.threshold)
        bias = op.bias.astype(np.int64)
        if isinstance(op, EncodeConv):  # int8 pixels have `pad` as zero
            bias = bias + self.pad * op.weight.astype(np.int64).sum(0)
        scales = np.maximum(unit, 1e-9) / (1.0 if isinstance(op, EncodeConv)
                                           else self.scale_of(op.input).scale)
        if self.program.value(op.input).kind == Kind.MEMBRANE:
            scales = np.maximum(unit, 1e-9)
            bias = np.rint(bias / self.scale_of(op.input).scale)
        reach = max(float(np.abs(self._currents(op, t) * unit).max()) for t in self.traces) or 1.0
        reach = reach if membrane else min(reach, MOST)
        y = g.unary("DEQUANTIZE", self.layer(op, scales.astype(np.float32), Quantized(reach / 127),
                                             bias=bias))
        if pool := getattr(op, "pool", 0):
            window = MaxPool("", "", pool, op.pool_stride, pool // 2)
            y = g.binary("ADD", y, g.number(reach * 1.01))  # pooling pads with 0
            y = g.binary("SUB", g.pooled(y, window), g.number(reach * 1.01))
        if not membrane:
            self._fire(op, y, op.threshold * unit)
            return
        if op.stream:
            y = g.binary("ADD", y, self.float_of(op.stream))
        elif g.shape(y)[0] < self.steps:
            y = g.joined([y] * self.steps)
        self.real[op.output] = y

    def _currents(self, op: Conv, trace: dict[str, np.ndarray]) -> np.ndarray:
        """On one image, before pooling."""
        stored = trace[op.input]
        if isinstance(op, EncodeConv):
            return interpret.encode_conv(op, stored, 1)
        if self.program.value(op.input).kind == Kind.SPIKES:
            stored = interpret.decode(stored, self.steps)
        run = interpret.depthwise_conv if isinstance(op, DepthwiseConv) else interpret.spike_conv
        return run(op, stored.astype(np.int64))

    def _fire(self, op: Op, current: int, threshold: np.ndarray | float) -> None:
        """Neurons on currents [T, H, W, C], or [1, ...] that come at every step."""
        if self.program.value(op.output).kind == Kind.SPIKES:
            self.real[op.output] = self._lif(current, threshold)
            return
        y = levels(self.g, Number(current, 0), np.asarray(threshold), real=True)
        self.real[op.output] = self.g.joined([y] * (self.steps // self.g.shape(y)[0]))

    def _lif(self, current: int, threshold: np.ndarray | float) -> int:
        return lif(self.g, Number(current, 0), threshold, self.steps, real=True)

    def _token_attention(self, op: TokenAttention) -> None:
        g, value = self.g, self.program.value(op.query)
        grouped = [self.steps, value.tokens, op.heads, value.shape[2] // op.heads]
        sums = g.summed(g.reshaped(self.float_of(op.query), grouped), [3])
        passes = self._lif(sums, op.threshold / 2**op.shift)
        kept = g.binary("MUL", g.reshaped(self.float_of(op.key), grouped), passes)
        self.real[op.output] = g.reshaped(kept, [self.steps, *value.shape])


def _unit(threshold: np.ndarray) -> np.ndarray:
    """The current [C] that counts as 1: the threshold, of several the highest."""
    return np.maximum(np.abs(threshold.reshape(-1, threshold.shape[-1])).max(0), 1).astype(float)
