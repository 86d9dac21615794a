"""Buffers that live at the same time share no byte."""

from itertools import combinations

import numpy as np
import pytest

from edgesvit.program.ops import Add, Kind, inputs
from edgesvit.program.plan import ALIGN, plan
from tests.program.programs import Builder, random_program


@pytest.mark.parametrize("seed", range(40))
def test_no_two_live_buffers_overlap(seed):
    layout = plan(random_program(seed))
    for a, b in combinations(layout.buffers, 2):
        live_together = a.first <= b.last and b.first <= a.last
        apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
        assert apart or not live_together, (a, b)


@pytest.mark.parametrize("seed", range(10))
def test_everything_is_aligned_and_inside(seed):
    program = random_program(seed)
    layout = plan(program)
    for value in program.values:
        start = layout.value_offset[value.name]
        assert start % ALIGN == 0
        assert start + value.stored_bytes(program.time_steps) <= layout.arena_bytes


@pytest.mark.parametrize("seed", range(20))
def test_a_value_lives_until_its_last_reader(seed):
    program = random_program(seed)
    layout = plan(program)
    buffers = {b.name: b for b in layout.buffers}
    for i, op in zip(layout.times, program.ops, strict=True):
        for name in inputs(op):
            if name in buffers:
                assert buffers[name].first <= i <= buffers[name].last


def test_siblings_run_at_the_same_time_in_one_scratch():
    build = Builder(np.random.default_rng(0), 4, (4, 4, 1))
    program = build.finish(build.attend(build.encode(6), 2, 3, 3), 3)
    layout = plan(program)
    assert layout.times == (0, 1, 1, 1, 2, 3)
    assert len(set(layout.scratch_offset[1:4])) == 1


def test_the_residual_stream_is_updated_in_place():
    program = random_program(5)
    layout = plan(program)
    streams = [op for op in program.ops
               if isinstance(op, Add) and program.value(op.input).kind == Kind.LEVELS]
    assert streams
    for op in streams:
        assert layout.value_offset[op.input] == layout.value_offset[op.output]


def test_the_arena_is_smaller_than_all_buffers_together():
    layout = plan(random_program(5))
    assert layout.arena_bytes < sum(b.bytes for b in layout.buffers)
