"""Counts of work, against counting one spike after the other."""

import doctest

import numpy as np
import pytest

from edgesvit.cost import energy, operations
from edgesvit.program.interpret import decode, trace
from edgesvit.program.ops import SelfAttention, SpikeConv, conv_size
from tests.program.programs import random_image, random_program


def slow_sops(op: SpikeConv, levels: np.ndarray, height: int, width: int) -> int:
    """Accumulates of a convolution, one tap at a time."""
    total = 0
    for y in range(height):
        for x in range(width):
            for dy in range(op.kernel):
                for dx in range(op.kernel):
                    row, column = y * op.stride - op.pad + dy, x * op.stride - op.pad + dx
                    if 0 <= row < levels.shape[1] and 0 <= column < levels.shape[2]:
                        total += int(levels[:, row, column].sum()) * op.weight.shape[1]
    return total


@pytest.mark.parametrize("seed", range(6))
def test_synaptic_operations_are_counted_exactly(seed):
    program = random_program(seed)
    image = random_image(program, seed)
    env = trace(program, image)
    rows = {row.output: row for row in operations.work(program, image[None])}
    for op in program.ops:
        if not isinstance(op, SpikeConv):
            continue
        stored = env[op.input]
        levels = stored if stored.ndim == 4 else decode(stored, program.time_steps)
        height, width = (conv_size(n, op.kernel, op.stride, op.pad)
                         for n in program.value(op.input).shape[:2])
        assert rows[op.output].sops == slow_sops(op, levels.astype(int), height, width)
        assert rows[op.output].rate == pytest.approx(levels.mean())


def test_attention_counts_pairs_and_rows():
    op = SelfAttention("q", "k", "v", "o", 2, 1, 8)
    q, k, v = (np.zeros((1, 1, 2, 4), int) for _ in range(3))
    k[0, 0, 0, :2] = 1  # head 0 of token 0: two keys
    v[0, 0, 0] = (1, 0, 1, 1)  # head 0: one value, head 1: two values
    q[0, 0, 1, 3] = 1  # one query in head 1: a row of two values
    row = operations._attention_work(op, q, k, v)
    assert (row.sops_int16, row.sops_int32) == (2 * 1, 2)
    assert row.macs == 2 * 1 * 2 * 2 * 2 * 2


def test_dense_macs_of_a_known_shape():
    program = random_program(3)
    rows = operations.work(program, random_image(program, 3)[None])
    first, op = rows[0], program.ops[0]
    channels = program.value(op.output).shape[2]
    height, width = (conv_size(n, op.kernel, op.stride, op.pad) for n in program.input.shape[:2])
    assert first.macs == height * width * op.kernel**2 * program.input.shape[2] * channels


def test_the_field_s_energy_reproduces_a_published_sum():
    assert doctest.testmod(energy).attempted == 1 and doctest.testmod(energy).failed == 0


def test_narrow_sums_cost_less():
    assert energy.bit_aware_mj(0, 1e9, 0) < energy.bit_aware_mj(0, 0, 1e9) < energy.field_mj(0, 1e9)
