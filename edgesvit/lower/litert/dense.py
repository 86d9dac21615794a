"""What int8 networks share: operators on int8 tensors [T, H, W, C], and the float ones between."""

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.lower.litert.graph import Graph, linear, weight_layout
from edgesvit.lower.litert.writer import Quantized
from edgesvit.program.ops import (
    Add,
    Classify,
    Conv,
    EncodeConv,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
)

INT4 = "edgesvit-int4"  # the metadata of a file that tflite-runtime 2.14 must not run: it gives NaN


class Dense:
    """Lowers operators one by one; `int8` and `real` hold the tensor of each value.

    Either is made from the other when it is wanted: `scale_of` says how.
    """

    def __init__(self, program: Program, steps: int):
        self.program, self.g, self.steps = program, Graph(), steps
        self.int8: dict[str, int] = {}
        self.real: dict[str, int] = {}

    def file(self) -> bytes:
        """All operators, then the file: int8 pixels - 128 to float scores."""
        source, first = self.program.input, self.program.ops[0]
        # A tap outside reads the zero point: the pixel, on average, that the program reads there.
        pad = int(np.rint(np.mean(first.pad_pixel))) if isinstance(first, EncodeConv) else 0
        frames = self.steps if source.kind == Kind.LEVELS else 1
        self.input_scale = Quantized(1.0, pad - 128)
        x = self.g.tensor([frames, *source.shape], "int8", self.input_scale)
        self.pad = pad
        self.int8[source.name] = x
        for op in self.program.ops:
            self.lower(op)
        return self.g.finish([x], [self.real[self.program.output.name]])

    def lower(self, op: Op) -> None:
        """Append what `op` computes."""
        raise NotImplementedError

    def scale_of(self, name: str) -> Quantized:
        """How a value is stored in int8."""
        raise NotImplementedError

    def refuse(self, op: Op) -> None:
        """Raise UsageError: no form for `op`."""
        raise UsageError(f"{type(op).__name__} -> {op.output} has no form in TFLite's int8 "
                         "operators", "--runtime native")

    def float_of(self, name: str) -> int:
        """The value in float."""
        if name not in self.real:
            self.real[name] = self.g.unary("DEQUANTIZE", self.int8[name])
        return self.real[name]

    def int8_of(self, name: str) -> int:
        """The value in int8."""
        if name not in self.int8:
            self.int8[name] = self.g.quantized(self.real[name], self.scale_of(name))
        return self.int8[name]

    def layer(self, op: Conv, scales: np.ndarray, output: Quantized, relu: bool = False,
              bias: np.ndarray | None = None) -> int:
        """The convolution of `op`, int8 in and out; `scales` [C_out] are those of its weights."""
        g, source = self.g, self.scale_of(op.input)
        weight = self._weight(op, scales)
        bias = op.bias if bias is None else bias
        added = g.constant(bias.astype(np.int32),
                           Quantized(np.float32(source.scale) * scales.astype(np.float32)))
        return g.window(self.int8_of(op.input), op, weight, added, output, source, relu)

    def _weight(self, op: Conv, scales: np.ndarray) -> int:
        """int8, or int4 where a linear layer's weights fit: XNNPACK has no other int4 kernels."""
        stored, axis = weight_layout(op)
        stored, quantized = np.ascontiguousarray(stored), Quantized(scales, axis=axis)
        if op.weight_bits > 4 or not linear(op) or stored.shape[1] % 2:
            return self.g.constant(stored, quantized)
        self.g.metadata[INT4] = b"1"
        nibbles = stored.reshape(-1).view(np.uint8) & 15
        packed = nibbles[::2] | nibbles[1::2] << 4
        return self.g.tensor(list(stored.shape), "int4", quantized, packed)

    def add(self, op: Add) -> None:
        """Residual addition in int8."""
        self.int8[op.output] = self.added(self.int8_of(op.input), self.int8_of(op.branch),
                                          self.scale_of(op.output))

    def added(self, a: int, b: int, scale: Quantized) -> int:
        """The sum of two int8 tensors."""
        y = self.g.tensor(self.g.shape(a), "int8", scale)
        return self.g.op("ADD", [a, b], [y], version=2)[0]

    def mixed(self, op: SelfAttention) -> int:
        """The products of q, k and v in float."""
        return mix(self.g, op, self.program,
                   [self.float_of(n) for n in (op.query, op.key, op.value)])

    def classify(self, op: Classify) -> None:
        """Sums over steps and tokens, then a small float layer."""
        g, x = self.g, self.float_of(op.input)
        n, height, width, channels = g.shape(x)
        if n * height * width > 1:
            x = g.summed(g.reshaped(x, [1, n * height, width, channels]), [1, 2])
        x = g.reshaped(x, [1, channels])
        weight = op.weight.T.astype(np.float32) / 2**op.shift
        y = g.tensor([1, op.weight.shape[1]], "float32")
        y, = g.op("FULLY_CONNECTED", [x, g.number(weight), g.number(op.bias)], [y])
        self.real[op.output] = g.binary("ADD", y, self.real[op.stream]) if op.stream else y


def mix(g: Graph, op: SelfAttention, program: Program, tensors: list[int]) -> int:
    """(q k^T) v or q (k^T v), whichever is cheaper, float [T, H, W, heads * d_v]."""
    height, width, channels = program.value(op.value).shape
    tokens = height * width

    def heads(x: int, order: list[int]) -> int:
        n, _, _, c = g.shape(x)
        return g.transposed(g.reshaped(x, [n, tokens, op.heads, c // op.heads]), order)

    q, k, v = (heads(x, order) for x, order in zip(
        tensors, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True))
    if tokens > g.shape(q)[-1]:
        y = g.product(q, g.product(k, v))
    else:
        y = g.product(g.product(q, k), v)
    y = g.transposed(y, [0, 2, 1, 3])
    return g.reshaped(y, [g.shape(y)[0], height, width, channels])


def spread(g: Graph, x: int, heads: int) -> int:
    """Spikes [T, H, W, C] with those of their neighbours: interpret.spread."""
    if not heads:
        return x
    n, height, width, channels = g.shape(x)
    grid = g.reshaped(x, [n, height * width, heads, channels // heads])
    most = g.pooled(g.transposed(grid, [0, 1, 3, 2]), MaxPool("", "", 3, 1, 1))
    return g.reshaped(g.transposed(most, [0, 1, 3, 2]), [n, height, width, channels])


def lone_layer(g: Graph, x: int, op: Conv, scales: tuple[float, np.ndarray, float]) -> int:
    """One int8 layer on the tensor x; `scales` of the input, the weights [C_out], the output."""
    of_input, of_weight, of_output = scales
    stored, axis = weight_layout(op)
    weight = g.constant(np.ascontiguousarray(stored), Quantized(of_weight, axis=axis))
    bias = g.constant(op.bias.astype(np.int32), Quantized(of_input * of_weight))
    return g.window(x, op, weight, bias, Quantized(of_output), Quantized(of_input))
