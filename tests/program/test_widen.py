"""Weights that a small core unpacks once: the same logits, and no byte more than it was lent."""

import ctypes

import numpy as np
import pytest

from edgesvit.boards.local import HostProgram, _Program, aligned
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run
from edgesvit.program.ops import Program
from tests.program.programs import random_image, random_membrane_program, random_program

_PAINT = 0xA5


def packed_bytes(program: Program) -> int:
    """Bytes of the weights of fewer than 8 bits, one each."""
    return sum(op.weight.size for op in program.ops
               if getattr(op, "weight_bits", 8) < 8)


def widened(program: Program, image: np.ndarray, room: int) -> tuple[np.ndarray, int]:
    """Logits with as much memory for unpacked weights, and the bytes said to be used of it."""
    host = HostProgram(to_bytes(program))
    memory, arena = aligned(room + 64), aligned(host.arena_bytes)
    memory[:] = _PAINT
    opened = _Program.from_buffer_copy(host._program)
    used = host._library.esv_widen(ctypes.byref(opened), host._pointer(memory),
                                   ctypes.c_uint32(room))
    assert (memory[used or room:] == _PAINT).all()
    host._place(arena, image)
    assert host._library.esv_run(ctypes.byref(opened), host._pointer(arena)) == 0
    return host._logits(arena), used


@pytest.mark.parametrize("make", [random_program, random_membrane_program])
@pytest.mark.parametrize("seed", range(4))
def test_unpacked_weights_give_the_same_logits(make, seed):
    program = make(seed)
    image, bytes_of_all = random_image(program, seed), packed_bytes(program)
    enough = bytes_of_all + 32 * len(program.ops)
    uses = []
    for room in (0, enough // 2, enough):
        logits, used = widened(program, image, room)
        assert logits.tolist() == run(program, image).tolist() and used <= room
        uses.append(used)
    assert uses[0] == 0 and uses[-1] > bytes_of_all
