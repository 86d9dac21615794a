"""Counts of work, against counting one spike after the other."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from edgesvit.cost import energy, operations
from edgesvit.program.interpret import decode, trace
from edgesvit.program.ops import (
    Add,
    ChooseTokens,
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    Fire,
    Gather,
    HadamardAttention,
    Kind,
    MaxPool,
    Program,
    PutBack,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    conv_size,
)
from edgesvit.program.validate import validate
from tests.program.programs import (
    Builder,
    random_image,
    random_membrane_program,
    random_program,
)

PROGRAMS = [(make, seed) for make in (random_program, random_membrane_program)
            for seed in range(11)]


def slow_sops(op: Conv, levels: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Accumulates of a convolution in int16 and int32, one tap and output channel at a time."""
    narrow = wide = 0
    for y in range(height):
        for x in range(width):
            for dy in range(op.kernel):
                for dx in range(op.kernel):
                    row, column = y * op.stride - op.pad + dy, x * op.stride - op.pad + dx
                    if not (0 <= row < levels.shape[1] and 0 <= column < levels.shape[2]):
                        continue
                    spikes = levels[:, row, column].sum(0)  # [C_in]
                    if isinstance(op, DepthwiseConv):
                        wide += int(spikes.sum())
                        continue
                    for fits in op.certified:
                        narrow += int(spikes.sum()) * int(fits)
                        wide += int(spikes.sum()) * int(not fits)
    return narrow, wide


def slow_attention(op: SelfAttention, q: np.ndarray, k: np.ndarray, v: np.ndarray
                   ) -> tuple[int, int]:
    """Unit accumulates of k^T v, and of the rows of it that query spikes add."""
    query_dim, value_dim = q.shape[-1] // op.heads, v.shape[-1] // op.heads
    pairs = rows = 0
    for t, y, x in np.ndindex(q.shape[:3]):
        for head in range(op.heads):
            for i in range(head * query_dim, (head + 1) * query_dim):
                rows += int(q[t, y, x, i]) * value_dim
                for j in range(head * value_dim, (head + 1) * value_dim):
                    pairs += int(k[t, y, x, i]) * int(v[t, y, x, j])
    return pairs, rows


def steps_of(program: Program, env: dict, name: str) -> np.ndarray:
    """A stored tensor as [T, H, W, C]."""
    if program.value(name).kind == Kind.SPIKES:
        return decode(env[name], program.time_steps)
    return env[name].astype(int)


@pytest.mark.parametrize(("make", "seed"), PROGRAMS)
def test_synaptic_operations_are_counted_exactly(make, seed):
    program = make(seed)
    image = random_image(program, seed)
    env = trace(program, image)
    rows = dict(zip((op.output for op in program.ops), operations.work(program, image[None]),
                    strict=True))
    for op in program.ops:
        row = rows[op.output]
        match op:
            case SpikeConv() | DepthwiseConv() if program.value(op.input).kind != Kind.MEMBRANE:
                levels = steps_of(program, env, op.input)
                size = (conv_size(n, op.kernel, op.stride, op.pad) for n in levels.shape[1:3])
                expected = slow_sops(op, levels, *size)
            case SelfAttention():
                levels = steps_of(program, env, op.query)
                expected = slow_attention(op, levels, steps_of(program, env, op.key),
                                          steps_of(program, env, op.value))
            case TokenAttention():
                levels = steps_of(program, env, op.query)
                expected = 0, sum(int(spike) for spike in levels.flat)
            case HadamardAttention():
                levels = steps_of(program, env, op.query)
                both = steps_of(program, env, op.key) & steps_of(program, env, op.value)
                expected = 0, slow_coincidences(op, both.reshape(len(both), -1, both.shape[3]))
            case ChooseTokens():
                numbers = steps_of(program, env, op.input)  # each summed, each compared
                windows = 4 * numbers[0].size if op.spatial else 0
                assert (row.sops, row.rate, row.union) == (2 * numbers.size + windows, None, None)
                assert row.multiplies == (3 * numbers[0].size if op.spatial else 0)
                continue
            case _:
                assert (row.sops, row.rate, row.union) == (0, None, None)
                continue
        assert (row.sops_int16, row.sops_int32) == expected
        assert row.rate == pytest.approx(levels.mean())
        assert row.union == pytest.approx(np.mean([n.any() for n in
                                                   levels.reshape(len(levels), -1).T]))
        assert row.multiplies == 0 < row.macs


def test_the_random_programs_hold_every_operator():
    seen = {type(op) for make, seed in PROGRAMS for op in make(seed).ops}
    assert seen == {EncodeConv, SpikeConv, DepthwiseConv, Fire, MaxPool, Add, SelfAttention,
                    HadamardAttention, TokenAttention, Classify, ChooseTokens, Gather, PutBack}


def slow_coincidences(op: HadamardAttention, both: np.ndarray) -> int:
    """Coincidences [T, N, C], in event models also those of neighbours within a head."""
    count, width = 0, both.shape[2] // (op.heads or both.shape[2])
    for t, n, c in np.ndindex(both.shape):
        near = [(n, c)]
        if op.heads:
            near = [(m, d) for m in range(n - 1, n + 2) for d in range(c - 1, c + 2)
                    if 0 <= m < both.shape[1] and d // width == c // width]
        count += any(both[t, m, d] for m, d in near)
    return count


@pytest.mark.parametrize(("make", "seed"), PROGRAMS)
def test_what_multiplies(make, seed):
    program = make(seed)
    for op in program.ops:
        row = operations.shape_work(op, program)
        kind = program.value(getattr(op, "input", op.output)).kind
        multiplies = (isinstance(op, EncodeConv | Classify | ChooseTokens)
                      or isinstance(op, Conv) and kind == Kind.MEMBRANE)
        assert row.multiplies == (row.macs if multiplies else 0)
        widths = {EncodeConv: 8, Classify: 32, ChooseTokens: 32}
        assert row.operand_bits == widths.get(type(op), 16 if multiplies else 8)


def test_dense_macs_and_rescales_of_known_shapes():
    build = Builder(np.random.default_rng(0), 3, (5, 7, 2))
    stream = (Kind.MEMBRANE, 1000)
    x = build.encode(4, kernel=3, stride=2, gives=stream)  # 3 x 4 positions
    spikes = build.fire(x)
    wide = build.conv(spikes, 6, pool=(3, 2))  # 3 x 4 positions, pooled to 2 x 2
    low = build.depthwise(wide, gives=(Kind.MEMBRANE, 500))
    y = build.conv(low, 4, gives=stream)
    mixed = build.attend_hadamard(build.fire(y), 5)
    z = build.attend(build.attend_tokens(mixed, 2, 3), 2, 3, 4)
    program = validate(build.finish(z, 10))
    rows = [operations.shape_work(op, program) for op in program.ops]
    by_type = {}
    for op, row in zip(program.ops, rows, strict=True):
        by_type.setdefault(type(op), []).append(row)
    [encode], [depthwise] = by_type[EncodeConv], by_type[DepthwiseConv]
    assert (encode.macs, encode.rescales) == (12 * 9 * 2 * 4, 12 * 4)  # once, not T times
    first, narrow = by_type[SpikeConv][:2]
    assert (first.macs, first.rescales) == (3 * 12 * 4 * 6, 0)
    assert (depthwise.macs, depthwise.rescales) == (3 * 4 * 9 * 6, 3 * 4 * 6)
    assert (narrow.multiplies, narrow.rescales) == (3 * 4 * 6 * 4, 3 * 4 * 4)
    assert by_type[HadamardAttention][0].macs == 3 * 4 * 5
    assert by_type[TokenAttention][0].macs == 3 * 4 * 6
    assert by_type[SelfAttention][0].macs == 2 * 3 * 4 * 2 * 3 * 4
    assert by_type[Classify][0].macs == 8 * 10
    assert {row.macs for row in by_type[Fire]} == {0}


def test_a_coincidence_is_of_key_and_value():
    build = Builder(np.random.default_rng(0), 2, (1, 2, 1))
    build.attend_hadamard(build.encode(3, kernel=1, pad=0), 3)
    op, values = build.ops[-1], tuple(build.values)
    assert isinstance(op, HadamardAttention)
    # Codes of two steps: key and value meet at step 0 of the first channel and both of the last.
    codes = {op.query: [[[3, 3, 3], [3, 3, 3]]], op.key: [[[1, 1, 3], [0, 2, 0]]],
             op.value: [[[3, 2, 3], [3, 1, 3]]]}
    row = operations._work(op, Program(2, values, tuple(build.ops)),
                           {name: np.array(code, np.uint8) for name, code in codes.items()})
    assert (row.sops_int16, row.sops_int32, row.rate, row.macs) == (0, 3, 1, 2 * 2 * 3)


def test_work_is_the_mean_of_the_images():
    program = random_membrane_program(2)
    images = np.stack([random_image(program, seed) for seed in (1, 2)])
    one, two = (operations.work(program, image[None]) for image in images)
    for both, first, second in zip(operations.work(program, images), one, two, strict=True):
        assert both.sops == pytest.approx((first.sops + second.sops) / 2)
        assert replace(both, sops_int16=0, sops_int32=0, rate=None, union=None) == replace(
            first, sops_int16=0, sops_int32=0, rate=None, union=None)


def test_the_field_s_energy_reproduces_a_published_sum():
    assert doctest.testmod(energy).attempted == 2 and doctest.testmod(energy).failed == 0


def test_narrow_sums_cost_less():
    assert energy.bit_aware_mj(0, 1e9, 0) < energy.bit_aware_mj(0, 0, 1e9) < energy.field_mj(0, 1e9)


def test_the_width_of_a_product_is_priced():
    assert energy.bit_aware_mj(1e9, 0, 0) == pytest.approx(0.2 + 0.1)
    assert energy.bit_aware_mj(1e9, 0, 0, operand_bits=16) == pytest.approx(0.4 + 0.1)
    assert energy.bit_aware_mj(0, 0, 0, rescales=1e9) == pytest.approx(3.1)
