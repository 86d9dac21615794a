"""Every operator in C against the interpreter, on random and on adversarial cases."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesvit.boards.local import HostProgram
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import decode, trace
from edgesvit.program.ops import Kind, Program, SpikeConv, Value
from edgesvit.program.plan import plan
from tests.program.programs import (
    Builder,
    beyond_int16,
    random_image,
    random_membrane_program,
    random_program,
    roads,
)


def assert_equal(program: Program, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every stored tensor after every operator is the same, byte for byte, with all kernels, by
    lists and by dense products."""
    expected, layout, host = trace(program, image), plan(program), HostProgram(to_bytes(program))
    for i, name in enumerate(roads()):
        for op, arena in zip(program.ops, host.arenas(image, name, (1, 3, 3, 1)[i % 4]),
                             strict=True):
            start = layout.value_offset[op.output]
            size = program.value(op.output).stored_bytes(program.time_steps)
            got = arena[start:start + size].tobytes()
            assert got == np.ascontiguousarray(expected[op.output]).tobytes(), (
                name, op.output, type(op))
    return expected


def network(steps: int, image: tuple[int, int, int], build: Callable[[Builder], Value],
            seed: int = 0) -> Program:
    builder = Builder(np.random.default_rng(seed), steps, image)
    return builder.finish(build(builder), 3)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks(seed):
    program = random_program(seed)
    assert_equal(program, random_image(program, seed))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_membrane_networks(seed):
    program = random_membrane_program(seed)
    assert_equal(program, random_image(program, seed))


# Levels of 15 fit sums of int16, those of 40 and 255 with 49 taps do not.
@pytest.mark.parametrize(("kernel", "stride", "pad", "channels"), [
    (7, 1, 3, 8), (3, 1, 1, 20), (3, 2, 0, 1), (5, 1, 0, 33), (1, 1, 0, 5), (7, 2, 3, 16)])
@pytest.mark.parametrize(("steps", "reads"), [
    (1, (Kind.SPIKES, 1)), (3, (Kind.SPIKES, 1)), (8, (Kind.SPIKES, 1)), (2, (Kind.LEVELS, 15)),
    (1, (Kind.LEVELS, 40)), (2, (Kind.LEVELS, 255)), (3, (Kind.MEMBRANE, 2000))])
def test_depthwise_convolutions(kernel, stride, pad, channels, steps, reads):
    def build(b: Builder) -> Value:
        x = b.depthwise(b.encode(channels, gives=reads), kernel, stride, pad)
        return b.conv(x, 40, 3, pad=1)  # what work memory is set aside for

    program = network(steps, (9, 15, 2), build, seed=channels)
    assert_equal(program, random_image(program, kernel))


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 65])
def test_tile_edges(steps, channels):
    program = network(steps, (3, 3, 1), lambda b: b.conv(b.encode(7), channels, 3, pad=1))
    assert_equal(program, random_image(program, channels))


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 1),
                                                       (3, 1, 1), (3, 2, 1), (5, 3, 2), (7, 2, 3)])
@pytest.mark.parametrize("size", [(7, 7), (8, 5)])
def test_window_shapes(kernel, stride, pad, size):
    program = network(4, (*size, 2), lambda b: b.pool(
        b.conv(b.encode(5, kernel, stride, pad), 6, 3, pad=1)))
    assert_equal(program, random_image(program, kernel))


@pytest.mark.parametrize("pool", [(2, 2), (3, 1), (3, 2), (5, 3)])
@pytest.mark.parametrize("channels", [5, 33])
def test_pooling_before_the_neuron(pool, channels):
    program = network(3, (7, 6, 2), lambda b: b.conv(
        b.encode(6, pool=pool), channels, 3, pad=1, pool=pool))
    assert_equal(program, random_image(program, channels))


@pytest.mark.parametrize("pool", [(3, 2), (2, 1)])
def test_pooled_levels(pool):
    def build(b: Builder) -> Value:
        x = b.encode(6)
        return b.conv(b.add(x, b.conv(x, 6)), 40, 3, 2, 1, pool=pool)

    program = network(4, (9, 8, 1), build)
    assert_equal(program, random_image(program, 1))


@pytest.mark.parametrize(("heads", "dim"), [(3, 5), (2, 16), (8, 16)])
def test_token_attention(heads, dim):
    passed = 0
    for seed in range(4):
        program = network(4, (4, 4, 2), lambda b: b.attend_tokens(b.encode(9), heads, dim), seed)
        passed += assert_equal(program, random_image(program, heads))["v4"].any()
    assert passed


@pytest.mark.parametrize(("heads", "dim"), [(20, 1), (3, 5), (2, 16), (2, 17), (1, 40)])
def test_attention_of_event_models(heads, dim):
    rates = []
    for seed in range(8):
        program = network(3, (5, 4, 2), lambda b: b.attend_hadamard(
            b.encode(9), heads * dim, heads), seed)
        codes = assert_equal(program, random_image(program, seed))["v5"]
        rates.append(np.mean(codes != 0))
    assert 0 < np.mean(rates) < 0.9


def test_classifiers_of_membranes_and_of_their_levels():
    builder = Builder(np.random.default_rng(0), 1, (6, 5, 2))
    membranes = builder.encode(33, gives=(Kind.MEMBRANE, 32767))
    levels = builder.fire(membranes, (Kind.LEVELS, 8), over_tokens=True)
    program = builder.finish(levels, 20, membranes)
    shifts = [op.shift for op in program.ops[-2:]]
    assert shifts[0] > 0 == shifts[1]
    seen = assert_equal(program, random_image(program, 5))
    first, last = (seen[op.output].reshape(-1) for op in program.ops[-2:])
    assert (first != last).any() and first.any()


def constant_image(program: Program, grey: int) -> np.ndarray:
    return np.full(program.input.shape, grey, np.uint8)


@pytest.mark.parametrize("grey", [0, 255])
def test_all_silent_and_all_firing(grey):
    def build(b: Builder) -> Value:
        x = b.encode(9)
        # bias and threshold such that everything, or nothing, fires at every step
        b.ops[-1].weight[:] = 1
        b.ops[-1].pad_pixel[:] = 0
        b.ops[-1].bias[:] = -10
        b.ops[-1].threshold[:] = 1
        x = b.add(x, b.conv(x, 9))
        return b.add(x, b.attend(x, 3, 2, 3))

    program = network(4, (4, 4, 2), build)
    expected = assert_equal(program, constant_image(program, grey))
    assert set(np.unique(expected["v1"])) == {0b1111 if grey else 0}


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_ties_at_the_threshold(offset):
    def build(b: Builder) -> Value:
        x = b.encode(40)
        b.ops[-1].weight[:] = 0
        b.ops[-1].bias[:] = 2 * np.arange(40) + offset
        b.ops[-1].threshold[:] = np.arange(40)  # (2 threshold + offset) >> 1 against threshold
        return x

    program = network(1, (1, 1, 1), build)
    expected = assert_equal(program, constant_image(program, 0))
    assert expected["v1"].all() == (offset >= 0) and expected["v1"].any() == (offset >= 0)


def extreme(total: int) -> Program:
    """A linear layer whose largest accumulator is exactly `total`: 600 inputs that all fire."""
    def build(b: Builder) -> Value:
        x = b.encode(600)
        b.ops[-1].weight[:] = 0
        b.ops[-1].bias[:] = 4
        b.ops[-1].threshold[:] = 1
        out = b.conv(x, 5)
        weight = np.full((600, 5), total // 600, np.int8)
        weight[:total % 600] += 1
        sign = np.array([1, -1, 1, -1, 1])
        rest = np.array([0, 0, 0, -1, 1], np.int32)
        threshold = np.array([total >> 1, 1, (total >> 1) + 1, -total, 1], np.int32)
        certified = sign * total + rest
        b.ops[-1] = SpikeConv(x.name, out.name, 1, 1, 0, (weight * sign).astype(np.int8), rest,
                              threshold,
                              certified=(certified <= 32767) & (certified >= -32768))
        return out

    return network(3, (1, 1, 1), build)


@pytest.mark.parametrize(("total", "certified"), [(32766, 5), (32767, 4), (32768, 1), (60000, 0)])
def test_int16_certificate_at_its_limits(total, certified):
    program = extreme(total)
    assert int(program.ops[1].certified.sum()) == certified
    assert_equal(program, constant_image(program, 0))


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_sums_that_leave_int16_only_where_many_fire(steps):
    program = beyond_int16(steps)
    expected = assert_equal(program, random_image(program, steps))
    fired = decode(expected[program.ops[0].output], steps).sum(-1)
    corner, middle = fired[:, :2, :2].sum((1, 2)), fired[:, 1:4, 1:4].sum((1, 2))
    assert corner.min() < 258 < middle.max()  # rows of 127 that fit int16


def test_levels_up_to_the_largest():
    def build(b: Builder) -> Value:
        x = b.encode(4)
        b.ops[-1].bias[:] = 100_000
        b.ops[-1].threshold[:] = 1
        stream = b.add(x, x)
        for _ in range(253):
            stream = b.add(stream, x)
        return b.add(x, b.conv(stream, 4))

    program = network(8, (2, 1, 1), build)
    assert max(v.max_level for v in program.values if v.kind == Kind.LEVELS) == 255
    expected = assert_equal(program, constant_image(program, 200))
    assert max(v.max() for k, v in expected.items() if k != "image" and v.dtype == np.uint8) == 255
