"""Residual streams: which values hold the same channels because they are added to each other.

A channel of a stream exists in every value of it, so pruning removes it from all of them at once,
and from the layers that write or read them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edgesvit.program.ops import (
    Add,
    Conv,
    DepthwiseConv,
    Fire,
    Gather,
    HadamardAttention,
    MaxPool,
    Op,
    Program,
    PutBack,
    TokenAttention,
    inputs,
)


@dataclass(frozen=True)
class Ends:
    """The streams an operator reads and writes, labels like "s0"; "" where it does neither."""

    reads: str = ""
    writes: str = ""


def streams(program: Program) -> dict[str, str]:
    """The stream's label, s0, s1, ..., of each value that belongs to one, in the program's order.

    Values belong together when channel c of one is channel c of the other: they are added, or pass
    a neuron, a pooling or a depth-wise window. Such a set is a stream when something is added.
    """
    root = {value.name: value.name for value in program.values}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    added = []
    for op in program.ops:
        for name in _same_channels(op):
            root[find(name)] = find(op.output)
        if isinstance(op, Add) or isinstance(op, Conv) and op.stream:
            added.append(op.output)
    summed = {find(name) for name in added}
    labels: dict[str, str] = {}
    members = {}
    for value in program.values:
        if (top := find(value.name)) in summed:
            members[value.name] = labels.setdefault(top, f"s{len(labels)}")
    return members


def ends(program: Program) -> list[Ends]:
    """What each operator reads of streams and writes to them, in the order of the operators."""
    label = streams(program)

    def joined(names: tuple[str, ...]) -> str:
        return ",".join(dict.fromkeys(label[name] for name in names if name in label))

    return [Ends(joined(inputs(op)), joined((op.output,))) for op in program.ops]


def _same_channels(op: Op) -> Iterator[str]:
    """The values an operator reads whose channel c can only become channel c of its output."""
    match op:
        case Add():
            yield from inputs(op)
        case HadamardAttention() if not op.heads:
            yield from inputs(op)
        case Fire() | MaxPool() | Gather():
            yield op.input
        case PutBack():
            yield from (op.input, op.branch)
        case TokenAttention():
            yield op.key
        case Conv():
            if isinstance(op, DepthwiseConv):
                yield op.input
            if op.stream:
                yield op.stream
