"""The dense int8 twin of a spike program: one pass, ReLU in place of neurons, the same layers.

Its weights are the program's, its scales are made up: untrained, it shows time and memory alone.
"""

import numpy as np

from edgesvit.lower.litert.dense import Dense
from edgesvit.lower.litert.writer import RELU, Quantized
from edgesvit.program.ops import (
    Add,
    Classify,
    Conv,
    Fire,
    HadamardAttention,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    TokenAttention,
)

SCALE = Quantized(0.05)  # what numbers come out does not matter here


def twin(program: Program) -> bytes:
    """The .tflite file; takes int8 pixels - 128."""
    return _Twin(program, 1).file()


class _Twin(Dense):
    def scale_of(self, name: str) -> Quantized:
        return self.input_scale if name == self.program.input.name else SCALE

    def lower(self, op: Op) -> None:
        """Append the conventional operator of the same shape."""
        g = self.g
        match op:
            case Conv():
                self._convolution(op)
            case Fire():
                x = self.rectified(self.int8_of(op.input))
                if op.over_tokens:
                    x = g.quantized(g.summed(g.unary("DEQUANTIZE", x), [1, 2]), SCALE)
                self.int8[op.output] = x
            case MaxPool():
                self.int8[op.output] = g.pooled(self.int8_of(op.input), op, SCALE)
            case Add():
                self.add(op)
            case SelfAttention():
                self.real[op.output] = self.mixed(op)
            case HadamardAttention():  # the event form's spreading has no conventional twin
                both = g.binary("MUL", self.float_of(op.key), self.float_of(op.value))
                self.real[op.output] = g.binary("MUL", self.float_of(op.query),
                                                g.summed(both, [1, 2]))
            case TokenAttention():
                value = self.program.value(op.query)
                grouped = [1, value.tokens, op.heads, value.shape[2] // op.heads]
                sums = g.summed(g.reshaped(self.float_of(op.query), grouped), [3])
                kept = g.binary("MUL", g.reshaped(self.float_of(op.key), grouped), sums)
                self.real[op.output] = g.reshaped(kept, [1, *value.shape])
            case Classify():
                self.classify(op)
            case _:
                self.refuse(op)

    def rectified(self, x: int) -> int:
        """ReLU as the addition of 0: XNNPACK takes no ReLU of its own in int8."""
        y = self.g.tensor(self.g.shape(x), "int8", SCALE)
        none = self.g.constant(np.zeros((1, 1, 1, 1), np.int8), SCALE)
        return self.g.op("ADD", [x, none], [y], version=2, fusedActivationFunction=RELU)[0]

    def _convolution(self, op: Conv) -> None:
        linear = self.program.value(op.output).kind == Kind.MEMBRANE
        y = self.layer(op, np.full(op.channels, 0.01, np.float32), SCALE, relu=not linear,
                       bias=np.zeros(op.channels))
        if pool := getattr(op, "pool", 0):
            y = self.g.pooled(y, MaxPool("", "", pool, op.pool_stride, pool // 2), SCALE)
        self.int8[op.output] = self.added(y, self.int8_of(op.stream), SCALE) if op.stream else y
