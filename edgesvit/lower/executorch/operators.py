"""The operators `edgesvit::*` as PyTorch sees them: schemas, shapes, and what they compute.

    NAME(Tensor program, int index, Tensor[] inputs, int[] layout) -> (Tensor..., Tensor)

program: uint8, the whole .esv file; index: the operator in it; layout: T, bytes of scratch memory,
then kind, H, W, C of each output. The last result is the scratch memory, so that a memory planner
sees it. NAME_2 to NAME_4 stand for siblings. What they compute is the interpreter's; the library
that runs on boards is firmware/executorch/operators.cpp.
"""

import functools
import re

import numpy as np
import torch

from edgesvit.program import file
from edgesvit.program.interpret import step
from edgesvit.program.ops import Kind, Op, Program, SpikeConv, inputs, scratch_bytes

MOST_SIBLINGS = 4  # ESV_MOST_SIBLINGS
_DTYPES = {Kind.MEMBRANE: torch.int16, Kind.LOGITS: torch.int32, Kind.INDEX: torch.int16}
_library = torch.library.Library("edgesvit", "DEF")


def op_name(op: Op, siblings: int = 1) -> str:
    """`spike_conv` of SpikeConv, `spike_conv_3` of three that share what they sort."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(op).__name__).lower()
    return f"{name}_{siblings}" if siblings > 1 else name


def layout(program: Program, ops: tuple[Op, ...]) -> list[int]:
    """The integers that describe the results of siblings `ops`."""
    outputs = [program.value(op.output) for op in ops]
    scratch = max(scratch_bytes(op, program) for op in ops)
    return [program.time_steps, scratch, *(n for v in outputs for n in (int(v.kind), *v.shape))]


def shape_of(kind: Kind, steps: int, height: int, width: int, channels: int) -> tuple[int, ...]:
    """The shape of a value as a tensor: time first where it has its own axis."""
    if kind in (Kind.LEVELS, Kind.MEMBRANE):
        return steps, height, width, channels
    return (channels,) if kind == Kind.LOGITS else (height, width, channels)


def dtype_of(kind: Kind) -> torch.dtype:
    """uint8 for all but membranes and indices (int16) and logits (int32)."""
    return _DTYPES.get(kind, torch.uint8)


def _results(described: list[int]) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each result, scratch last."""
    steps, scratch, *rest = described
    outputs = [(Kind(rest[i]), rest[i + 1:i + 4]) for i in range(0, len(rest), 4)]
    return [*((shape_of(kind, steps, *size), dtype_of(kind)) for kind, size in outputs),
            ((max(scratch, 1),), torch.uint8)]


@functools.lru_cache(4)
def _program(data: bytes) -> Program:
    return file.from_bytes(data)


def _compute(constant: torch.Tensor, index: int, sources: list[torch.Tensor],
             described: list[int]) -> tuple[torch.Tensor, ...]:
    program = _program(constant.numpy().tobytes())
    results = []
    for i, (shape, dtype) in enumerate(_results(described)[:-1]):
        op = program.ops[index + i]
        env = {name: _stored(tensor, program, name)
               for name, tensor in zip(inputs(op), sources, strict=True)}
        stored = np.ascontiguousarray(step(op, program, env)).reshape(shape)
        results.append(torch.from_numpy(stored).view(dtype).clone())
    return *results, torch.zeros(max(described[1], 1), dtype=torch.uint8)


def _stored(tensor: torch.Tensor, program: Program, name: str) -> np.ndarray:
    value, array = program.value(name), tensor.numpy()
    if value.kind == Kind.LOGITS:
        return array.reshape(value.shape)
    return array.view(np.uint16) if value.kind == Kind.INDEX else array


def _compute_into(constant: torch.Tensor, index: int, sources: list[torch.Tensor],
                  described: list[int], **out: torch.Tensor) -> tuple[torch.Tensor, ...]:
    for place, result in zip(out.values(), _compute(constant, index, sources, described),
                             strict=True):
        place.copy_(result)
    return tuple(out.values())


def _shapes(constant: torch.Tensor, index: int, sources: list[torch.Tensor],
            described: list[int]) -> tuple[torch.Tensor, ...]:
    return tuple(constant.new_empty(shape, dtype=dtype) for shape, dtype in _results(described))


def _define(name: str, outputs: int) -> None:
    """One operator and its `.out` form, which ExecuTorch takes."""
    arguments = "Tensor program, int index, Tensor[] inputs, int[] layout"
    places = [f"out{i}" for i in range(outputs)] + ["scratch"]
    marked = [f"Tensor({chr(97 + i)}!)" for i in range(len(places))]
    written = ", ".join(f"{mark} {place}" for mark, place in zip(marked, places, strict=True))
    _library.define(f"{name}({arguments}) -> ({', '.join(['Tensor'] * len(places))})")
    _library.define(f"{name}.out({arguments}, *, {written}) -> ({', '.join(marked)})")
    _library.impl(name, _compute, "CompositeExplicitAutograd")
    _library.impl(f"{name}.out", _compute_into, "CompositeExplicitAutograd")
    torch.library.register_fake(f"edgesvit::{name}", _shapes, lib=_library)


for _type in Op.__args__:
    _define(op_name(_type.__new__(_type)), 1)
for _count in range(2, MOST_SIBLINGS + 1):
    _define(op_name(SpikeConv.__new__(SpikeConv), _count), _count)
