"""Predicted instructions: what they count, and that narrower and fewer weights change them."""

import numpy as np
import pytest

pytest.importorskip("torch")

from edgesvit import targets  # noqa: E402
from edgesvit.compress.setting import WHOLE, Setting, apply  # noqa: E402
from edgesvit.cost.instructions import NAMES, amounts, predict  # noqa: E402
from edgesvit.cost.operations import work  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.evaluate import unchecked_program  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402

FC2 = "block.0.mlp.fc2_linear"
MODEL = RunFolder(shipped_model("spikformer-digits"))
CORES = ("qemu-user-a76", "qemu-mps2-an386", "qemu-mps2-an500", "qemu-mps3-an547")


@pytest.fixture(scope="module")
def images():
    return load("digits", "test").images[:2]


def program(setting: Setting):
    return unchecked_program(*apply(setting, MODEL.card(), MODEL.weights()))


def told(setting: Setting, images) -> dict[str, float]:
    made = program(setting)
    return dict(zip(NAMES, amounts(made, {row.output: row for row in work(made, images)}),
                    strict=True))


def test_the_width_of_weights_is_told_by_its_fields(images):
    whole, *narrow = (told(Setting(bits={FC2: bits} if bits < 8 else {}), images)
                      for bits in (8, 7, 6, 4))
    fields = [f"row tiles, {name}" for name in ("3 fields", "2 fields", "1 field")]
    assert all(whole[name] == 0 for name in fields)
    for found, name in zip(narrow, fields, strict=True):
        assert found[name] > 0 and [other for other in fields if found[other]] == [name]
        left = whole["row tiles, 8 bits"] - found["row tiles, 8 bits"]
        assert found[name] == pytest.approx(left, rel=0.2)  # other weights, other spikes behind


def test_layers_of_one_input_are_sorted_for_once(images):
    made = program(WHOLE)
    done = {row.output: row for row in work(made, images)}
    names = [op.output for op in made.ops]
    before, through = names.index("block.0.q"), names.index("block.0.v") + 1
    ends = [amounts(_cut(made, end), done) for end in (before, before + 1, through)]
    first, others = (dict(zip(NAMES, b - a, strict=True))
                     for a, b in zip(ends, ends[1:], strict=False))
    source = made.value("stream")
    assert first["sorted inputs"] == source.tokens * source.shape[2]
    assert others["sorted inputs"] == 0 and others["level tiles"] > 0
    assert others["operators"] == 2


def _cut(made, end):
    from dataclasses import replace

    return replace(made, ops=made.ops[:end])


@pytest.mark.parametrize("core", CORES)
def test_less_of_a_model_takes_fewer_instructions(images, core):
    target = targets.load(core)
    rows = {row.output: row for row in work(program(WHOLE), images)}
    counts = [predict(program(setting), rows, target) for setting in (
        WHOLE, Setting(kept={"hidden.0": 96}), Setting(kept={"hidden.0": 96, "stream.0": 32}),
        Setting(kept={"hidden.0": 96, "stream.0": 32}, tokens={"block.1": 0.0}))]
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == 4
    assert np.isfinite(counts).all()
