"""Where each tensor lives: buffer lifetimes -> offsets in one arena."""

import itertools
from dataclasses import dataclass

from edgesvit.program.ops import (
    Add,
    Conv,
    Kind,
    Op,
    Program,
    PutBack,
    SpikeConv,
    inputs,
    scratch_bytes,
)

ALIGN = 16


@dataclass(frozen=True)
class Buffer:
    """A stretch of the arena that is occupied from the time `first` to `last`."""

    name: str
    bytes: int
    first: int
    last: int
    offset: int = 0


@dataclass(frozen=True)
class Plan:
    """Offsets of every value and of every operator's scratch; `arena_bytes` holds them all.

    `times` are those at which the operators run: siblings at the same.
    """

    arena_bytes: int
    value_offset: dict[str, int]
    scratch_offset: tuple[int, ...]
    buffers: tuple[Buffer, ...]
    times: tuple[int, ...]


def plan(program: Program) -> Plan:
    """Place the largest buffers first, each at the lowest offset that is free while it lives.

    A residual addition or a putting back writes in place when nothing later reads what it adds
    to.
    """
    times = _times(program)
    owner, buffers = _buffers(program, times)
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-b.bytes, b.first, b.name)):
        placed.append(Buffer(buffer.name, buffer.bytes, buffer.first, buffer.last,
                             _lowest_gap(buffer, placed)))
    offsets = {b.name: b.offset for b in placed}
    return Plan(
        arena_bytes=max(b.offset + _aligned(b.bytes) for b in placed),
        value_offset={v.name: offsets[owner[v.name]] for v in program.values},
        scratch_offset=tuple(offsets.get(_scratch(i), 0) for i in times),
        buffers=tuple(placed),
        times=tuple(times),
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _scratch(time: int) -> str:
    return f"scratch at time {time}"


def _buffers(program: Program, times: list[int]) -> tuple[dict[str, str], list[Buffer]]:
    """The buffer each value lives in, and all buffers with their lifetimes."""
    timed = list(zip(times, program.ops, strict=True))
    last_read = {name: i for i, op in timed for name in inputs(op)}
    owner = {program.input.name: program.input.name}
    life = {program.input.name: [0, last_read.get(program.input.name, 0)]}
    scratch: dict[int, int] = {}
    for i, op in timed:
        end = last_read.get(op.output, len(program.ops))
        stream = _stream(op, program)
        in_place = stream and last_read[stream] == i
        owner[op.output] = owner[stream] if in_place else op.output
        life.setdefault(owner[op.output], [i, end])[1] = end
        if needed := scratch_bytes(op, program):
            scratch[i] = max(needed, scratch.get(i, 0))
    values = [Buffer(name, program.value(name).stored_bytes(program.time_steps), *life[name])
              for name in life]
    return owner, values + [Buffer(_scratch(i), needed, i, i) for i, needed in scratch.items()]


def _times(program: Program) -> list[int]:
    """When each operator runs: siblings at the same time.

    Siblings are spiking convolutions of one input and window next to each other, which sort what
    fires once (firmware/runtime/esv_siblings.c).
    """
    times = [0]
    for before, op in itertools.pairwise(program.ops):
        times.append(times[-1] + (not _siblings(before, op)))
    return times


def _siblings(a: Op, b: Op) -> bool:
    window = ("input", "kernel", "stride", "pad", "pool", "pool_stride", "stream")
    return (isinstance(a, SpikeConv) and isinstance(b, SpikeConv) and not a.stream
            and all(getattr(a, name) == getattr(b, name) for name in window))


def _stream(op: Op, program: Program) -> str:
    """The value that `op` adds to and could write over; '' when there is none."""
    if isinstance(op, Add) and program.value(op.input).kind == Kind.LEVELS:
        return op.input
    if isinstance(op, PutBack):
        return op.input
    # A convolution still reads its input while it writes.
    return op.stream if isinstance(op, Conv) and op.stream != op.input else ""


def _lowest_gap(buffer: Buffer, placed: list[Buffer]) -> int:
    busy = sorted((b.offset, b.offset + _aligned(b.bytes)) for b in placed
                  if b.first <= buffer.last and buffer.first <= b.last)
    offset = 0
    for start, end in busy:
        if offset + buffer.bytes <= start:
            break
        offset = max(offset, end)
    return offset
