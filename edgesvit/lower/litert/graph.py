"""Element-wise operators, shapes and windows on a Writer, in the forms that XNNPACK takes whole."""

import numpy as np

from edgesvit.lower.litert.writer import RELU, SAME, VALID, Quantized, Writer
from edgesvit.program.ops import Conv, DepthwiseConv, MaxPool

_MOST = 4  # XNNPACK splits into, and joins, so many tensors at most


class Graph(Writer):
    """A Writer with float arithmetic. Arguments that are no tensor index are float constants."""

    def number(self, value: float | np.ndarray) -> int:
        """A float constant."""
        return self.constant(np.asarray(value, np.float32))

    def binary(self, kind: str, a: int, b: int, relu: bool = False) -> int:
        """ADD, SUB, MUL, MINIMUM or MAXIMUM of two tensors, of which one may broadcast."""
        shape = list(np.broadcast_shapes(self.shape(a), self.shape(b)))
        settings = {"fusedActivationFunction": RELU} if relu else {}
        return self.op(kind, [a, b], [self.tensor(shape, "float32")], **settings)[0]

    def unary(self, kind: str, x: int) -> int:
        """FLOOR, CEIL, RELU or DEQUANTIZE."""
        return self.op(kind, [x], [self.tensor(self.shape(x), "float32")])[0]

    def scaled(self, x: int, factor: float | np.ndarray) -> int:
        """x times a constant."""
        return self.binary("MUL", x, self.number(factor))

    def quantized(self, x: int, scale: Quantized) -> int:
        """A float tensor as int8."""
        return self.op("QUANTIZE", [x], [self.tensor(self.shape(x), "int8", scale)])[0]

    def reshaped(self, x: int, shape: list[int]) -> int:
        """The same numbers in another shape."""
        if self.shape(x) == shape:
            return x
        to = np.array(shape, np.int32)
        y = self.tensor(shape, "float32")
        return self.op("RESHAPE", [x, self.constant(to)], [y], newShape=to)[0]

    def transposed(self, x: int, order: list[int]) -> int:
        """Axes in another order."""
        y = self.tensor([self.shape(x)[i] for i in order], "float32")
        return self.op("TRANSPOSE", [x, self.constant(np.array(order, np.int32))], [y])[0]

    def product(self, a: int, b: int) -> int:
        """Matrix product of [.., m, k] and [.., k, n]."""
        y = self.tensor([*self.shape(a)[:-1], self.shape(b)[-1]], "float32")
        return self.op("BATCH_MATMUL", [a, b], [y])[0]

    def summed(self, x: int, axes: list[int]) -> int:
        """Sums over `axes`, which stay with length 1."""
        shape = [1 if i in axes else n for i, n in enumerate(self.shape(x))]
        y = self.tensor(shape, "float32")
        to = self.constant(np.array(axes, np.int32))
        return self.op("SUM", [x, to], [y], keepDims=True)[0]

    def steps(self, x: int) -> list[int]:
        """[T, ...] as T tensors [1, ...]."""
        count, *rest = self.shape(x)
        if count == 1:
            return [x]
        if count <= _MOST:
            parts = [self.tensor([1, *rest], "float32") for _ in range(count)]
            return self.op("SPLIT", [self.constant(np.int32(0)), x], parts, numSplits=count)
        return [self._slice(x, t) for t in range(count)]

    def _slice(self, x: int, at: int) -> int:
        shape = [1, *self.shape(x)[1:]]
        begin = self.constant(np.array([at, *[0] * (len(shape) - 1)], np.int32))
        size = self.constant(np.array(shape, np.int32))
        return self.op("SLICE", [x, begin, size], [self.tensor(shape, "float32")])[0]

    def joined(self, parts: list[int]) -> int:
        """Tensors [n, ...] one after the other along the first axis."""
        while len(parts) > 1:
            parts = [self._join(parts[i:i + _MOST]) for i in range(0, len(parts), _MOST)]
        return parts[0]

    def _join(self, parts: list[int]) -> int:
        if len(parts) == 1:
            return parts[0]
        length = sum(self.shape(x)[0] for x in parts)
        y = self.tensor([length, *self.shape(parts[0])[1:]], "float32")
        return self.op("CONCATENATION", parts, [y], axis=0)[0]

    def padded(self, x: int, before: int, after: tuple[int, int], dtype: str = "float32",
               quantized: Quantized | None = None) -> int:
        """Zeros around [n, H, W, C]: `before` above and left, `after` below and right."""
        n, height, width, channels = self.shape(x)
        if not before and not any(after):
            return x
        pads = np.array([[0, 0], [before, after[0]], [before, after[1]], [0, 0]], np.int32)
        shape = [n, height + before + after[0], width + before + after[1], channels]
        y = self.tensor(shape, dtype, quantized)
        return self.op("PAD", [x, self.tensor([4, 2], "int32", None, pads)], [y])[0]

    def pooled(self, x: int, op: MaxPool, quantized: Quantized | None = None) -> int:
        """Max-pooling of numbers that are 0 or more. SAME would pad on the other side."""
        n, height, width, channels = self.shape(x)
        out = [(size + 2 * op.pad - op.kernel) // op.stride + 1 for size in (height, width)]
        after = tuple(max((end - 1) * op.stride + op.kernel - size - op.pad, 0)
                      for end, size in zip(out, (height, width), strict=True))
        dtype = "int8" if quantized else "float32"
        x = self.padded(x, op.pad, after, dtype, quantized)
        y = self.tensor([n, *out, channels], dtype, quantized)
        return self.op("MAX_POOL_2D", [x], [y], version=2, padding=VALID, strideH=op.stride,
                       strideW=op.stride, filterHeight=op.kernel, filterWidth=op.kernel)[0]

    def window(self, x: int, op: Conv, weight: int, bias: int, quantized: Quantized | None = None,
               pad: Quantized | None = None, relu: bool = False) -> int:
        """The convolution of `op` with other constants; `quantized` int8 input (`pad`) and output.

        weight [C_out, k, k, C_in], [C_out, C_in] where `linear`, or depthwise [1, k, k, C].
        """
        n, *size = self.shape(x)[:3]
        dtype = "int8" if quantized else "float32"
        same = op.stride == 1 and 2 * op.pad == op.kernel - 1
        if not same:
            x = self.padded(x, op.pad, (op.pad, op.pad), dtype, pad)
        out = [(extent + 2 * op.pad - op.kernel) // op.stride + 1 for extent in size]
        y = self.tensor([n, *out, op.channels], dtype, quantized)
        settings = {"fusedActivationFunction": RELU} if relu else {}
        if linear(op):
            return self.op("FULLY_CONNECTED", [x, weight, bias], [y], version=5, keepNumDims=True,
                           **settings)[0]
        kind = "CONV_2D"
        if isinstance(op, DepthwiseConv):
            kind, settings = "DEPTHWISE_CONV_2D", settings | {"depthMultiplier": 1}
        return self.op(kind, [x, weight, bias], [y], version=3, padding=SAME if same else VALID,
                       strideH=op.stride, strideW=op.stride, dilationHFactor=1, dilationWFactor=1,
                       **settings)[0]


def linear(op: Conv) -> bool:
    """Whether `op` is a linear layer on every token."""
    return (op.kernel, op.stride, op.pad) == (1, 1, 0) and not isinstance(op, DepthwiseConv)


def weight_layout(op: Conv) -> tuple[np.ndarray, int]:
    """The weights int8 as TFLite wants them, and the axis of the output channels."""
    if isinstance(op, DepthwiseConv):
        return op.weight.reshape(1, op.kernel, op.kernel, op.channels), 3
    if linear(op):
        return op.weight.T, 0
    return op.weight.T.reshape(op.channels, op.kernel, op.kernel, -1), 0
