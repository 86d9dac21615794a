"""Choosing tokens: the definition of the scores, the C kernels, and what files are refused."""

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgesvit.boards.local import HostProgram
from edgesvit.errors import EdgesvitError
from edgesvit.program import file, tokens
from edgesvit.program.interpret import run, trace
from edgesvit.program.ops import Kind, Program, Value
from edgesvit.program.plan import plan
from edgesvit.program.validate import validate
from tests.program.programs import Builder, random_image
from tests.program.test_file import op_at, sealed
from tests.program.test_operators import assert_equal

LEVELS, MEMBRANE = (Kind.LEVELS, 5), (Kind.MEMBRANE, 32767)


def network(build: Callable[[Builder, Value], Value], image=(6, 5, 2), steps=3,
            gives=(Kind.SPIKES, 1), channels=9) -> Program:
    """A network whose first layer gives a kind of values, and what is built on them."""
    b = Builder(np.random.default_rng(3), steps, image)
    out = build(b, b.encode(channels, gives=gives))
    if out.kind == Kind.MEMBRANE:
        out = b.fire(out)
    return b.finish(out, 3)


def some(b: Builder, x: Value, kept: int = 7, **how) -> Value:
    index = b.choose(x, kept, **how)
    stream = x if x.kind == Kind.MEMBRANE else None
    few = b.gather(x, index)
    signal = b.fire(few) if stream else few
    gives = (x.kind, x.max_level)
    branch = b.conv(signal, x.shape[2], gives=gives, stream=few if stream else None)
    return b.put_back(x, index, branch)


@pytest.mark.parametrize("low", [0, -300])
def test_the_spatial_score_is_one_minus_the_cosine(low):
    x = np.random.default_rng(0).integers(low, 300, (7, 6, 20))
    y = tokens.window_sums(x, 3)
    around = [x[max(h - 1, 0):h + 2, max(w - 1, 0):w + 2].sum((0, 1))
              for h in range(7) for w in range(6)]
    assert (y.reshape(42, 20) == around).all()
    cosine = (x * y).sum(2) / np.sqrt((x * x).sum(2) * (y * y).sum(2))
    assert np.abs(tokens.unlikeness(x, y) / tokens.ONE - (1 - cosine)).max() < 2 / tokens.ONE


def test_silent_tokens_score_nothing_and_silent_windows_one():
    x = np.array([[[0, 0], [3, 4], [-3, -4]]])
    assert tokens.unlikeness(x, x).tolist() == [[0, 0, 0]]
    assert tokens.unlikeness(x, np.zeros_like(x)).tolist() == [[0, tokens.ONE, tokens.ONE]]
    assert tokens.unlikeness(x, -x).tolist() == [[0, 2 * tokens.ONE, 2 * tokens.ONE]]


def test_equal_scores_keep_the_first_tokens_and_none_is_favoured():
    flat = np.ones((2, 4, 4, 3), np.int64)
    scores = tokens.token_scores(flat, 1, 1, 1)
    assert not scores.any()
    assert tokens.chosen(scores, 5).tolist() == [0, 1, 2, 3, 4]
    assert tokens.chosen(np.array([[1, 3], [3, 2]]), 2).tolist() == [1, 2]


def test_the_temporal_score_counts_the_first_step_as_a_change():
    features = np.array([[3, 1], [3, 5]]).reshape(2, 1, 2, 1)  # changes 3 + 0 and 1 + 4
    scores = tokens.token_scores(features, 1, 0, 1)
    assert scores.tolist() == [[0, tokens.ONE]]


@pytest.mark.parametrize("gives", [(Kind.SPIKES, 1), LEVELS, MEMBRANE])
@pytest.mark.parametrize(("kept", "window", "weights"), [
    (1, 1, (1, 1)), (29, 3, (1, 0)), (15, 15, (15, 15)), (15, 5, (0, 1))])
def test_kernels_choose_as_the_definition(gives, kept, window, weights):
    how = {"window": window, "spatial": weights[0], "temporal": weights[1]}
    program = network(lambda b, x: some(b, x, kept, **how), gives=gives, channels=35)
    for seed in range(3):
        index = assert_equal(program, random_image(program, seed))["v2"].reshape(-1)
        assert (np.diff(index.astype(int)) > 0).all()


def test_stopped_tokens_keep_what_they_were():
    program = network(some, gives=LEVELS)
    env = trace(program, random_image(program, 1))
    before, after, index = env["v1"], env["v5"], env["v2"].reshape(-1)
    stopped = np.setdiff1d(np.arange(30), index)
    flat = before.reshape(3, 30, 9), after.reshape(3, 30, 9)
    assert (flat[0][:, stopped] == flat[1][:, stopped]).all()
    assert (flat[1][:, index] == env["v4"].reshape(3, 7, 9)).all()
    assert (before != after).any()


def test_putting_back_writes_over_the_map():
    layout = plan(network(some, gives=MEMBRANE))
    assert layout.value_offset["v1"] == layout.value_offset["v6"]


def test_a_map_that_is_read_again_is_not_written_over():
    def build(b: Builder, x: Value) -> Value:
        later = some(b, x)
        return b.put_back(later, b.choose(x, 3), b.gather(x, b.choose(x, 3)))

    program = network(build, gives=LEVELS)
    assert plan(program).value_offset["v1"] != plan(program).value_offset["v5"]
    assert_equal(program, random_image(program, 0))


@pytest.mark.parametrize("gives", [(Kind.SPIKES, 1), LEVELS, MEMBRANE])
def test_round_trip(gives):
    program = network(some, gives=gives)
    data = file.to_bytes(program)
    again = file.from_bytes(data)
    assert file.to_bytes(again) == data and again.values == program.values
    image = random_image(program, 2)
    assert (run(again, image) == run(program, image)).all()


@pytest.mark.parametrize(("why", "changes"), [
    ("window", {"window": 4}), ("not both 0", {"spatial": 0, "temporal": 0}),
    ("0 to 15", {"spatial": 16}), ("others none", {"scale": np.ones(9, np.int32)})])
def test_wrong_choices_are_told(why, changes):
    program = network(some)
    ops = (program.ops[0], replace(program.ops[1], **changes), *program.ops[2:])
    with pytest.raises(EdgesvitError, match=why):
        validate(replace(program, ops=ops))


@pytest.mark.parametrize(("why", "value"), [
    ("index \\[1, K, 1\\]", Value("v2", Kind.INDEX, (1, 30, 1), 29)),
    ("index \\[1, K, 1\\]", Value("v2", Kind.INDEX, (1, 7, 1), 30)),
    ("shapes differ", Value("v2", Kind.INDEX, (1, 6, 1), 29))])
def test_wrong_indices_are_told(why, value):
    program = network(some)
    with pytest.raises(EdgesvitError, match=why):
        validate(replace(program, values=(*program.values[:2], value, *program.values[3:])))


def test_an_index_of_a_larger_map_is_refused():
    def build(b: Builder, x: Value) -> Value:
        index = b.choose(x, 7)
        return b.gather(b.pool(x), index)

    with pytest.raises(EdgesvitError, match="larger map"):
        validate(network(build))


@pytest.mark.parametrize(("what", "op", "field", "value"), [
    ("an even window", 1, 1, b"\x04"), ("a window of 17", 1, 1, b"\x11"),
    ("no scores", 1, 2, b"\0\0"), ("a heavy score", 1, 2, b"\x10"),
    ("a scale outside the file", 1, 24, struct.pack("<I", 1 << 30)),
    ("too little scratch", 1, 44, struct.pack("<I", 16)),
    ("a choice that gives no index", 1, 10, b"\x01\0"),
    ("a gathering of no index", 2, 6, b"\x01\0"),
    ("a putting back of no index", 5, 6, b"\x01\0"),
    ("a putting back of the whole map", 5, 8, b"\x01\0")])
def test_impossible_operators_are_refused_by_the_runtime(what, op, field, value):
    data = file.to_bytes(network(some, gives=MEMBRANE))
    HostProgram(data)
    with pytest.raises(EdgesvitError, match="impossible operator"):
        HostProgram(sealed(data, op_at(data, op) + field, value))


def value_at(data: bytes, index: int) -> int:
    return struct.unpack_from("<I", data, 32)[0] + index * 16


@pytest.mark.parametrize(("what", "field", "value"), [
    ("another last token", 2, struct.pack("<H", 28)), ("two rows", 4, struct.pack("<H", 2)),
    ("all tokens", 6, struct.pack("<H", 30)), ("two channels", 8, struct.pack("<H", 2)),
    ("levels", 0, b"\x02")])
def test_impossible_indices_are_refused_by_the_runtime(what, field, value):
    data = file.to_bytes(network(some))
    with pytest.raises(EdgesvitError, match="impossible operator|impossible value"):
        HostProgram(sealed(data, value_at(data, 2) + field, value))
