"""A spike program as a .tflite file of builtin operators whose logits are the interpreter's.

Integers are carried in float32 below 2**24 (integers.py), so that no kernel, on whatever machine,
can round. Weights are stored in int8 with scale 1. Tensors are [T, H, W, C].
"""

from dataclasses import replace

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.lower.litert.dense import mix, spread
from edgesvit.lower.litert.graph import Graph, weight_layout
from edgesvit.lower.litert.integers import EXACT, Number, normal, plus, require, rescale, split
from edgesvit.lower.litert.neurons import levels, lif
from edgesvit.lower.litert.writer import Quantized
from edgesvit.program.ops import (
    Add,
    Classify,
    Conv,
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
from edgesvit.program.validate import accumulator_range

PIXELS = Quantized(1.0, -128)  # uint8 as int8: XNNPACK reads it
AS_THEY_ARE = Quantized(1.0)


def exact(program: Program) -> bytes:
    """The .tflite file: int8 pixels - 128 [1, H, W, C], or events [T, H, W, C], to float32 logits.

    Raises EdgesvitError where a sum may pass what float32 can count, UsageError for operators that
    have no builtin form.
    """
    return _Exact(program).file()


class _Exact:
    def __init__(self, program: Program):
        self.program, self.g = program, Graph()
        self.values: dict[str, int] = {}
        self.scores: dict[str, int] = {}  # the largest score of each classifier

    def file(self) -> bytes:
        """All operators, then the file."""
        source, g = self.program.input, self.g
        frames = 1 if source.kind == Kind.PIXELS else self.program.time_steps
        x = g.tensor([frames, *source.shape], "int8", PIXELS)
        self.values[source.name] = g.unary("DEQUANTIZE", x)
        for op in self.program.ops:
            self.values[op.output] = self._lowered(op)
        return g.finish([x], [self.values[self.program.output.name]])

    def _lowered(self, op: Op) -> int:
        g = self.g
        match op:
            case Conv():
                return self._follow(op, self._currents(op))
            case Fire():
                return self._fire(op, op.threshold, self._summed(op))
            case MaxPool():
                return g.pooled(self.values[op.input], op)
            case Add():
                return g.binary("ADD", self.values[op.input], self.values[op.branch])
            case SelfAttention():
                return self._self_attention(op)
            case TokenAttention():
                return self._token_attention(op)
            case HadamardAttention():
                both = g.binary("MUL", self.values[op.key], self.values[op.value])
                sums = g.summed(spread(g, both, op.heads), [1, 2])
                passes = self._counted(op, sums, self.program.value(op.key).tokens)
                return spread(g, g.binary("MUL", self.values[op.query], passes), op.heads)
            case Classify():
                return self._classify(op)
        raise UsageError(f"{type(op).__name__} -> {op.output} has no form in TFLite's builtin "
                         "operators", "--runtime native")

    def _bound(self, name: str) -> int:
        return self.program.value(name).max_level

    def _counted(self, op: Op, x: int, bound: int) -> int:
        """LIF of the counts x, up to `bound`, << op.shift.

        Counts have no more bits than the steps halve away in integers, whatever the shift: beyond
        that it only says what the threshold is worth.
        """
        steps = self.program.time_steps
        zeros = min(op.shift, steps)
        threshold = -(-op.threshold >> op.shift - zeros)
        current = self.g.scaled(x, 1 << zeros) if zeros else x
        return lif(self.g, Number(current, bound << zeros), threshold, steps, zeros)

    # Convolutions

    def _currents(self, op: Conv) -> Number:
        """What the neurons or the membranes of `op` get, pooled."""
        x, bias = self.values[op.input], op.bias.astype(np.int64)
        g = self.g
        if isinstance(op, EncodeConv) and op.pad:  # a tap outside reads pad_pixel: centre it on 0
            pixel = op.pad_pixel.astype(np.int64)
            x = g.binary("SUB", x, g.number(pixel))
            bias = bias + np.tile(pixel, op.kernel**2) @ op.weight.astype(np.int64)
        pool = getattr(op, "pool", 0)
        low, high = accumulator_range(op.weight, op.bias, self._bound(op.input))
        if pool:  # pooling pads with 0: below every current
            bias = bias - low
        current = self._convolved(op, x, bias)
        if not pool:
            return current
        require(int((high - low).max()), f"the pooled currents of {op.output}")
        window = MaxPool("", "", pool, op.pool_stride, pool // 2)
        pooled = g.pooled(current.low, window)
        bound = int(max(-low.min(), high.max()))
        return replace(plus(g, Number(pooled, 0), low), bound=bound)

    def _convolved(self, op: Conv, x: int, bias: np.ndarray) -> Number:
        """The convolution, on two digits of its input where its sums may pass 2**24."""
        g, largest = self.g, self._bound(op.input)
        heaviest = int(np.abs(op.weight.astype(np.int64)).sum(0).max())
        most = int(np.abs(bias).max())
        weight = self._weight(op)
        bound = largest * heaviest + most
        if bound <= 1 << 23:
            return Number(g.window(x, op, weight, g.number(bias)), self._reach(op, bias, bound))
        base = next((b for b in (1 << 10, 1 << 8, 1 << 6) if b * (heaviest + 1) < 1 << 23), 16)
        high, low = (g.window(digit, op, weight, g.number(added)) for digit, added in zip(
            split(g, x, base), (bias // base, bias % base), strict=True))
        bounds = ((largest // base + 1) * heaviest + most // base + 1, base * (heaviest + 1))
        return normal(g, high, low, base, bounds, f"the currents of {op.output}")

    def _reach(self, op: Conv, bias: np.ndarray, bound: int) -> int:
        """The largest current that any input gives."""
        if self.program.value(op.input).kind == Kind.MEMBRANE or isinstance(op, EncodeConv):
            return bound
        low, high = accumulator_range(op.weight, bias, self._bound(op.input))
        return int(max(-low.min(), high.max()))

    def _weight(self, op: Conv) -> int:
        stored = np.ascontiguousarray(weight_layout(op)[0])
        return self.g.unary("DEQUANTIZE", self.g.constant(stored, AS_THEY_ARE))

    def _follow(self, op: Conv, current: Number) -> int:
        """Currents through neurons, or added to a membrane stream."""
        out, g = self.program.value(op.output), self.g
        if out.kind != Kind.MEMBRANE:
            return self._fire(op, op.threshold, current)
        y = rescale(g, current, op.scale, op.shift, f"the membranes of {op.output}")
        bound = y.bound
        x = y.low
        if op.stream:
            x, bound = g.binary("ADD", x, self.values[op.stream]), bound + self._bound(op.stream)
        if bound > out.max_level:
            x = g.binary("MINIMUM", x, g.number(out.max_level))
            x = g.binary("MAXIMUM", x, g.number(-out.max_level))
        if isinstance(op, EncodeConv) and self.program.time_steps > 1 and g.shape(x)[0] == 1:
            x = g.joined([x] * self.program.time_steps)
        return x

    def _fire(self, op: Conv | Fire, threshold: np.ndarray, current: Number) -> int:
        steps = self.program.time_steps
        if self.program.value(op.output).kind == Kind.SPIKES:
            return lif(self.g, current, threshold, steps)
        y = levels(self.g, current, threshold)
        return self.g.joined([y] * steps) if self.g.shape(y)[0] < steps else y

    def _summed(self, op: Fire) -> Number:
        """The membranes themselves, or their sums over the tokens."""
        source, x = self.program.value(op.input), self.values[op.input]
        if not op.over_tokens:
            return Number(x, source.max_level)
        return self._token_sums(x, source.tokens, source.max_level, op.output)

    def _token_sums(self, x: int, count: int, largest: int, name: str) -> Number:
        """The sums of `count` numbers up to `largest` over both axes of the map."""
        g = self.g
        if count == 1:
            return Number(x, largest)
        if count * largest <= 1 << 23:
            return Number(g.summed(x, [1, 2]), count * largest)
        base = 1 << 8
        high, low = (g.summed(digit, [1, 2]) for digit in split(g, x, base))
        bounds = (count * (largest // base + 1), count * (base - 1))
        return normal(g, high, low, base, bounds, f"the sums of {name}")

    # Attention

    def _self_attention(self, op: SelfAttention) -> int:
        """(q k^T) v or q (k^T v), whichever is cheaper, then neurons."""
        g = self.g
        mixed = mix(g, op, self.program, [self.values[n] for n in (op.query, op.key, op.value)])
        query, key, value = (self.program.value(n) for n in (op.query, op.key, op.value))
        bound = (query.tokens * (query.shape[2] // op.heads) * query.max_level * key.max_level
                 * value.max_level)
        if op.level_thresholds:
            require(bound << op.shift, "the sums of an attention")
            current = Number(g.scaled(mixed, 1 << op.shift) if op.shift else mixed,
                             bound << op.shift)
            wide = np.array(op.level_thresholds, np.int64)[:, None]
            return levels(g, current, wide)
        return self._counted(op, mixed, bound)

    def _token_attention(self, op: TokenAttention) -> int:
        g, value = self.g, self.program.value(op.query)
        steps, per_head = self.program.time_steps, value.shape[2] // op.heads
        grouped = [steps, value.tokens, op.heads, per_head]
        sums = g.summed(g.reshaped(self.values[op.query], grouped), [3])
        kept = g.binary("MUL", g.reshaped(self.values[op.key], grouped),
                        self._counted(op, sums, per_head))
        return g.reshaped(kept, [steps, *value.shape])

    # The end

    def _classify(self, op: Classify) -> int:
        """Sums over tokens and steps, then the layer, its division and another's scores."""
        g, source = self.g, self.program.value(op.input)
        steps, classes = self.program.time_steps, op.weight.shape[1]
        x = self.values[op.input]
        rows = [1, steps * source.shape[0], source.shape[1], source.shape[2]]
        sums = self._token_sums(g.reshaped(x, rows), steps * source.tokens, source.max_level,
                                op.output)
        weight = g.unary("DEQUANTIZE", g.constant(np.ascontiguousarray(op.weight.T), AS_THEY_ARE))
        heaviest = int(np.abs(op.weight.astype(np.int64)).sum(0).max())
        bias = op.bias if not op.shift else np.zeros(classes)
        y, most = None, int(np.abs(bias).max())

        def layer(digit: int, added: np.ndarray) -> int:
            out = g.tensor([1, classes], "float32")
            row = g.reshaped(digit, [1, source.shape[2]])
            return g.op("FULLY_CONNECTED", [row, weight, g.number(added)], [out])[0]

        if sums.high is None and sums.bound * heaviest + most < EXACT:
            y = Number(layer(sums.low, bias), sums.bound * heaviest + most)
        else:
            base = sums.base if sums.high is not None else 1 << 8
            high, low = (sums.high, sums.low) if sums.high is not None else split(
                g, sums.low, base)
            y = normal(g, layer(high, bias // base), layer(low, bias % base), base,
                       ((sums.bound // base + 1) * heaviest + most // base + 1,
                        base * (heaviest + 1)), "the scores of the classes")
        if op.shift:
            y = plus(g, rescale(g, y, np.ones(classes, np.int64), op.shift,
                                "the scores of the classes"), op.bias)
        if y.high is not None:
            require(y.bound, "the scores of the classes")
            y = Number(g.binary("ADD", g.scaled(y.high, y.base), y.low), y.bound)
        self.scores[op.output] = y.bound + (self.scores[op.stream] if op.stream else 0)
        if not op.stream:
            return y.low
        require(self.scores[op.output], "the scores of the classes")
        return g.binary("ADD", y.low, self.values[op.stream])
