"""A spike program as a LiteRT model: the rival runs the same network, dense, in int8.

Weights and spikes are the program's own integers at scale 1, so that sums are exact; the steps are
folded into the batch. The neurons are float element-wise operators, in the form that XNNPACK takes
whole: spike = relu(1 - relu(ceil(threshold - v))) is 1 exactly where v >= threshold. The one thing
that rounds is the int8 output of each layer, whose scale comes from the currents of one image.

`twin` is the conventional network of the same shape: one pass, ReLU in place of neurons, all int8.
"""

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.program import interpret
from edgesvit.program.ops import (
    Add,
    Classify,
    EncodeConv,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
)
from peers.tflite_writer import RELU, VALID, Quantized, Writer, int8_layer

ONE = Quantized(1.0)  # spikes and levels as they are


def spiking(program: Program, image: np.ndarray) -> bytes:
    """The .tflite file of `program`, its scales calibrated on `image`; takes int8 pixels - 128.

    Raises UsageError for operators that no Spikformer has.
    """
    return _Spiking(program, image).file()


def twin(program: Program) -> bytes:
    """The .tflite file of the conventional network of the same shape."""
    return _Twin(program).file()


class _Lowering:
    """Operators one by one; `int8` holds the tensor [T, H, W, C] of each value, `real` in float."""

    steps: int

    def __init__(self, program: Program):
        self.program, self.w = program, Writer()
        self.int8: dict[str, int] = {}
        self.real: dict[str, int] = {}

    def file(self) -> bytes:
        """All operators, then the file."""
        first = self.program.ops[0]
        if not isinstance(first, EncodeConv) or self.program.input.kind != Kind.PIXELS:
            raise UsageError("the LiteRT peer takes programs that start with an image")
        pad = int(np.rint(np.mean(first.pad_pixel)))
        # A tap outside reads the zero point: the pixel that the program reads there.
        x = self.w.tensor([1, *self.program.input.shape], "int8", Quantized(1.0, pad - 128))
        self.int8[self.program.input.name] = x
        self.pad = pad
        for op in self.program.ops:
            self.lower(op)
        return self.w.finish([x], [self.real[self.program.output.name]])

    def lower(self, op: Op) -> None:
        """Append what `op` computes."""
        match op:
            case EncodeConv() | SpikeConv() if not op.pool and op.stride == 1 and not op.stream:
                self.convolution(op)
            case MaxPool():
                self.max_pool(op)
            case Add():
                self.add(op)
            case SelfAttention() if not op.level_thresholds:
                self.attention(op)
            case Classify():
                self.classify(op)
            case _:
                raise UsageError(f"the LiteRT peer has no {type(op).__name__} of this form: it "
                                 "takes Spikformer programs", "choose another --model")

    def float_of(self, name: str) -> int:
        """The value in float; spikes already are, where their neurons made them."""
        if name not in self.real:
            x = self.int8[name]
            y = self.w.tensor(self.w.shape(x), "float32")
            self.real[name], = self.w.op("DEQUANTIZE", [x], [y])
        return self.real[name]

    def quantized(self, x: int, scale: Quantized) -> int:
        """A float tensor as int8."""
        return self.w.op("QUANTIZE", [x], [self.w.tensor(self.w.shape(x), "int8", scale)])[0]

    def max_pool(self, op: MaxPool) -> None:
        """Padding is written out: SAME would put it on the other side."""
        w, x = self.w, self.int8[op.input]
        n, height, width, channels = w.shape(x)
        scale = self.scale_of(op.input)
        out = self.program.value(op.output).shape
        before = op.pad
        after = [(size - 1) * op.stride + op.kernel - old - before
                 for size, old in zip(out[:2], (height, width), strict=True)]
        if before or any(after):
            pads = np.array([[0, 0], [before, after[0]], [before, after[1]], [0, 0]], np.int32)
            shape = [n, height + before + after[0], width + before + after[1], channels]
            x, = w.op("PAD", [x, w.tensor([4, 2], "int32", None, pads)],
                      [w.tensor(shape, "int8", scale)])
        y = w.tensor([n, *out], "int8", scale)
        self.int8[op.output], = w.op(
            "MAX_POOL_2D", [x], [y], version=2, padding=VALID, strideH=op.stride,
            strideW=op.stride, filterHeight=op.kernel, filterWidth=op.kernel)

    def add(self, op: Add) -> None:
        """Residual addition in int8."""
        a, b = self.int8[op.input], self.int8[op.branch]
        y = self.w.tensor(self.w.shape(a), "int8", self.scale_of(op.output))
        self.int8[op.output], = self.w.op("ADD", [a, b], [y], version=2)

    def mixed(self, op: SelfAttention) -> int:
        """(q k^T) v or q (k^T v), whichever is cheaper, in float [T, H, W, heads * d_v]."""
        w = self.w
        height, width, channels = self.program.value(op.value).shape
        tokens, n = height * width, self.steps
        q = self._heads(op.query, op.heads, [0, 2, 1, 3])
        v = self._heads(op.value, op.heads, [0, 2, 1, 3])
        k = self._heads(op.key, op.heads, [0, 2, 3, 1])  # transposed
        per_head = w.shape(q)[-1]
        pair = ((k, v), (per_head, w.shape(v)[-1])) if tokens > per_head else (
            (q, k), (tokens, tokens))
        inner = self._product(*pair[0], [n, op.heads, *pair[1]])
        left, right = (q, inner) if tokens > per_head else (inner, v)
        y = self._product(left, right, [n, op.heads, tokens, w.shape(v)[-1]])
        y = self._transposed(y, [0, 2, 1, 3])
        return self._reshaped(y, [n, height, width, channels])

    def _heads(self, name: str, heads: int, order: list[int]) -> int:
        x = self.float_of(name)
        n, height, width, channels = self.w.shape(x)
        x = self._reshaped(x, [n, height * width, heads, channels // heads])
        return self._transposed(x, order)

    def _reshaped(self, x: int, shape: list[int]) -> int:
        y = self.w.tensor(shape, "float32")
        to = np.array(shape, np.int32)
        return self.w.op("RESHAPE", [x, self.w.constant(to)], [y], newShape=to)[0]

    def _transposed(self, x: int, order: list[int]) -> int:
        y = self.w.tensor([self.w.shape(x)[i] for i in order], "float32")
        return self.w.op("TRANSPOSE", [x, self.w.constant(np.array(order, np.int32))], [y])[0]

    def _product(self, a: int, b: int, shape: list[int]) -> int:
        return self.w.op("BATCH_MATMUL", [a, b], [self.w.tensor(shape, "float32")])[0]

    def classify(self, op: Classify) -> None:
        """Mean over steps and tokens, then a small float layer."""
        w, x = self.w, self.float_of(op.input)
        n, height, width, channels = w.shape(x)
        x = self._reshaped(x, [1, n * height, width, channels])
        axes = w.constant(np.array([1, 2], np.int32))
        mean, = w.op("MEAN", [x, axes], [w.tensor([1, channels], "float32")], keepDims=False)
        weight = op.weight.T.astype(np.float32) * (n * height * width)
        y = w.tensor([1, op.weight.shape[1]], "float32")
        self.real[op.output], = w.op(
            "FULLY_CONNECTED",
            [mean, w.constant(weight), w.constant(op.bias.astype(np.float32))], [y])


class _Spiking(_Lowering):
    def __init__(self, program: Program, image: np.ndarray):
        super().__init__(program)
        self.steps = program.time_steps
        self.trace = interpret.trace(program, image)

    def scale_of(self, name: str) -> Quantized:
        return ONE

    def convolution(self, op: EncodeConv | SpikeConv) -> None:
        bias = op.bias + (self.pad * op.weight.astype(np.int64).sum(0)
                          if isinstance(op, EncodeConv) else 0)
        scale = float(np.abs(self._currents(op)).max()) / 127
        y = int8_layer(self.w, self.int8[op.input], op.weight, bias, op.kernel,
                       (1.0, np.ones(op.channels, np.float32), scale))
        real, = self.w.op("DEQUANTIZE", [y], [self.w.tensor(self.w.shape(y), "float32")])
        self._fire(op.output, real, op.threshold)

    def attention(self, op: SelfAttention) -> None:
        self._fire(op.output, self.mixed(op), op.threshold / 2 ** op.shift)

    def _currents(self, op: EncodeConv | SpikeConv) -> np.ndarray:
        """On the image of the calibration."""
        stored = self.trace[op.input]
        if isinstance(op, EncodeConv):
            return interpret.encode_conv(op, stored, self.steps)
        if self.program.value(op.input).kind == Kind.SPIKES:
            stored = interpret.decode(stored, self.steps)
        return interpret.spike_conv(op, stored.astype(np.int64))

    def _fire(self, name: str, current: int, threshold: np.ndarray | float) -> None:
        """Neurons on [T, H, W, C], or on [1, ...] that is the current of every step."""
        w, steps = self.w, self.steps
        shape = [1, *w.shape(current)[1:]]
        currents = [current] * steps
        if w.shape(current)[0] > 1:
            currents = w.op("SPLIT", [w.constant(np.int32(0)), current],
                            [w.tensor(shape, "float32") for _ in range(steps)], numSplits=steps)
        spikes, membrane = [], None
        for x in currents:
            spike, membrane = self._step(x, membrane, threshold)
            spikes.append(spike)
        if steps > 1:
            y = w.tensor([steps, *shape[1:]], "float32")
            spikes = w.op("CONCATENATION", spikes, [y], axis=0)
        self.real[name] = spikes[0]
        self.int8[name] = self.quantized(spikes[0], ONE)

    def _step(self, x: int, membrane: int | None, threshold: np.ndarray | float
              ) -> tuple[int, int]:
        """One step of the neurons: the spikes, and the membranes after them."""
        half, one = (self.w.constant(np.float32(n)) for n in (0.5, 1))
        sum_ = x if membrane is None else self._binary("ADD", membrane, x, x)
        v = self._binary("MUL", sum_, half, x)
        short = self._binary("SUB", self.w.constant(np.asarray(threshold, np.float32)), v, x)
        for kind in ("CEIL", "RELU"):
            short, = self.w.op(kind, [short], [self.w.tensor(self.w.shape(x), "float32")])
        spike = self._binary("SUB", one, short, x, RELU)
        kept = self._binary("SUB", one, spike, x)
        return spike, self._binary("MUL", v, kept, x)

    def _binary(self, kind: str, a: int, b: int, like: int, activation: int = 0) -> int:
        y = self.w.tensor(self.w.shape(like), "float32")
        return self.w.op(kind, [a, b], [y], fusedActivationFunction=activation)[0]


class _Twin(_Lowering):
    steps = 1
    SCALE = Quantized(0.05)  # what numbers come out does not matter here

    def scale_of(self, name: str) -> Quantized:
        return self.SCALE

    def convolution(self, op: EncodeConv | SpikeConv) -> None:
        of_input = 1.0 if isinstance(op, EncodeConv) else self.SCALE.scale
        of_weight = np.full(op.channels, 0.01, np.float32)
        self.int8[op.output] = int8_layer(
            self.w, self.int8[op.input], op.weight, np.zeros(op.channels), op.kernel,
            (of_input, of_weight, self.SCALE.scale), relu=True)

    def attention(self, op: SelfAttention) -> None:
        self.int8[op.output] = self.quantized(self.mixed(op), self.SCALE)
