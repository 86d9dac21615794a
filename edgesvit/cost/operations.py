"""What a spike program does for an image: MACs, synaptic operations, firing rates.

Dense MACs need no image: every kernel position and step, padding included, as the field counts
them; the first convolution counts once, because a still image is the same at all T steps. Three
kinds of operators really multiply: the convolution of pixels, convolutions of membranes (numbers,
not spikes), and the classifier, which multiplies sums. Everything else adds: a synaptic operation
(SOP) is one accumulate caused by one spike. A level n causes n, on Spikformer's stream and behind
SDT-V3's integer neuron, whose papers count the same sum over T x D steps of 0 and 1.

Free here, as in the papers: neurons, pooling, residual additions, sums over tokens. The scores by
which tokens are chosen are not free: their sums count as SOPs, the products of their cosines as
multiplications. Not free for a board are the rescalings of currents to membranes, one int32 product
a value: counted by themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgesvit.program.interpret import decode, patches, spread, trace
from edgesvit.program.ops import (
    ChooseTokens,
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    HadamardAttention,
    Kind,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    conv_size,
)

# The width in bits of what the int8 weights of an operator multiply.
_OPERAND_BITS = {Kind.PIXELS: 8, Kind.MEMBRANE: 16}


@dataclass(frozen=True)
class Work:
    """One operator's work for one image, means over the images given.

    `macs` are dense, `multiplies` those that really multiply, by operands of `operand_bits`.
    `rate` is the mean of its input per neuron and step (of levels: the mean level), `union` (U) the
    share of input neurons that are not silent in all T steps; both are None where no spikes are
    added. Of attention they are the queries'.
    """

    output: str
    macs: int
    multiplies: int = 0
    operand_bits: int = 8
    rescales: int = 0
    sops_int16: float = 0.0
    sops_int32: float = 0.0
    rate: float | None = None
    union: float | None = None

    @property
    def sops(self) -> float:
        """All accumulates, whatever their width."""
        return self.sops_int16 + self.sops_int32


def work(program: Program, images: np.ndarray) -> list[Work]:
    """The work of every operator, from the interpreter's traces of images uint8 [n, H, W, C].

    Programs of event frames take images [n, T, H, W, C].
    """
    totals = [[_work(op, program, env) for op in program.ops]
              for env in (trace(program, image) for image in images)]
    return [_mean(rows) for rows in zip(*totals, strict=True)]


def dense_macs(op: Op, program: Program) -> int:
    """Multiply-accumulates of an operator if it ran densely; 0 where nothing is summed."""
    match op:
        case EncodeConv():
            return _positions(op, program) * op.weight.size
        case Conv():
            return program.time_steps * _positions(op, program) * op.weight.size
        case SelfAttention():  # in linear order: k^T v, then q times that
            query, value = program.value(op.query), program.value(op.value)
            pairs = query.shape[2] * value.shape[2] // op.heads
            return 2 * program.time_steps * query.tokens * pairs
        case TokenAttention() | HadamardAttention():
            query = program.value(op.query)
            return program.time_steps * query.tokens * query.shape[2]
        case ChooseTokens(spatial=spatial):  # the product and both squares of a cosine
            source = program.value(op.input)
            return 3 * source.tokens * source.shape[2] if spatial else 0
        case Classify():  # sums over tokens and steps come first
            return op.weight.size
        case _:
            return 0


def shape_work(op: Op, program: Program) -> Work:
    """The part of an operator's work that is the same for every image."""
    macs = dense_macs(op, program)
    multiplies, bits = 0, 8
    if isinstance(op, Conv) and (kind := program.value(op.input).kind) in _OPERAND_BITS:
        multiplies, bits = macs, _OPERAND_BITS[kind]
    elif isinstance(op, Classify | ChooseTokens):
        multiplies, bits = macs, 32
    sums = _score_sums(op, program) if isinstance(op, ChooseTokens) else 0
    return Work(op.output, macs, multiplies, bits, _rescales(op, program), sops_int32=float(sums))


def _score_sums(op: ChooseTokens, program: Program) -> int:
    """Additions: a number's sum over steps and its changes, and the sums of windows, into which a
    column of tokens comes and from which one goes.
    """
    source = program.value(op.input)
    return source.tokens * source.shape[2] * (2 * program.time_steps + (4 if op.spatial else 0))


def _positions(op: Conv, program: Program) -> int:
    """Where the kernel is applied, before any pooling."""
    return math.prod(conv_size(n, op.kernel, op.stride, op.pad)
                     for n in program.value(op.input).shape[:2])


def _rescales(op: Op, program: Program) -> int:
    """Currents that become membranes; those of a still image are the same at all steps."""
    out = program.value(op.output)
    if out.kind != Kind.MEMBRANE:
        return 0
    steps = 1 if isinstance(op, EncodeConv) else program.time_steps
    return steps * out.tokens * out.shape[2]


def _mean(rows: Sequence[Work]) -> Work:
    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in rows]
        return None if values[0] is None else float(np.mean(values))

    return replace(rows[0], **{name: mean(name)
                               for name in ("sops_int16", "sops_int32", "rate", "union")})


def _work(op: Op, program: Program, env: dict[str, np.ndarray]) -> Work:
    def steps(name: str) -> np.ndarray:  # -> [T, H, W, C]
        if program.value(name).kind == Kind.SPIKES:
            return decode(env[name], program.time_steps)
        return env[name].astype(np.int64)

    fixed = shape_work(op, program)
    if fixed.multiplies or not fixed.macs:
        return fixed
    match op:
        case SpikeConv():
            levels = steps(op.input)
            narrow = int(op.certified.sum())
            reads = _reads(op, levels)
            sops = reads * narrow, reads * (op.channels - narrow)
        case DepthwiseConv():
            levels = steps(op.input)
            sops = 0, _reads(op, levels)
        case SelfAttention():
            levels = steps(op.query)
            sops = _attention_sops(op, levels, steps(op.key), steps(op.value))
        case TokenAttention():
            levels = steps(op.query)
            sops = 0, int(levels.sum())
        case HadamardAttention():  # an AND, then one accumulate where key and value coincide
            levels = steps(op.query)
            both = steps(op.key) * steps(op.value)
            sops = 0, int(spread(both, op.heads).sum())
    return replace(fixed, sops_int16=float(sops[0]), sops_int32=float(sops[1]),
                   rate=float(levels.mean()), union=float(levels.any(0).mean()))


def _reads(op: Conv, levels: np.ndarray) -> int:
    """How often spikes [T, H, W, C] are read, each kernel position that holds one counted once."""
    return sum(int(patches(step.sum(-1, keepdims=True), op).sum()) for step in levels)


def _attention_sops(op: SelfAttention, q: np.ndarray, k: np.ndarray, v: np.ndarray
                    ) -> tuple[int, int]:
    """Linear order: a pair of key and value that fire together, then a value row a query spike."""
    def fired(x: np.ndarray) -> np.ndarray:  # -> [T, N, heads], spikes of a token and head
        steps, height, width, _ = x.shape
        return x.reshape(steps, height * width, op.heads, -1).sum(-1)

    value_dim = v.shape[-1] // op.heads
    return int((fired(k) * fired(v)).sum()), int(fired(q).sum()) * value_dim
