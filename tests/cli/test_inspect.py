"""`edgesvit inspect`, called as a user calls it."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from edgesvit.cost.operations import work
from edgesvit.program import file
from edgesvit.program.interpret import run as interpret
from edgesvit.program.ops import Check, Kind, Program
from tests.cli.test_deploy import answer, edgesvit
from tests.program.programs import random_image, random_membrane_program

SEED = 3  # of spikes and membranes, from a still image
EVENTS = 10  # of event frames, T = 2


def stored(folder: Path, seed: int, check: bool = True) -> tuple[Program, str]:
    """A random program with its own image, as an .esv file."""
    program = random_membrane_program(seed)
    image = random_image(program, seed)
    if check:
        program = replace(program, check=Check(image, interpret(program, image)))
    path = folder / "a.esv"
    file.write(program, path)
    return program, str(path)


def test_json_says_what_the_program_does(tmp_path):
    program, path = stored(tmp_path, SEED)
    document = answer(edgesvit("inspect", path, "--json"))
    rows = work(program, program.check.image[None])
    operators = document["operators"]
    assert [op["sops"] for op in operators] == [row.sops for row in rows]
    assert [op["macs"] for op in operators] == [row.macs for row in rows]
    assert document["total"]["multiplies"] == sum(row.multiplies for row in rows) > 0
    assert document["total"]["rescales"] == sum(row.rescales for row in rows) > 0
    for op, row in zip(operators, rows, strict=True):
        assert op["field_mj"] == pytest.approx((4.6 * row.multiplies + 0.9 * row.sops) * 1e-9)
        assert (op["bit_aware_mj"] > 0) == bool(row.sops or row.multiplies or row.rescales)
        assert op["traffic_mj"] == pytest.approx(640 * op["bytes"] / 4 * 1e-9)
    assert document["streams"] and {op["writes_stream"] for op in operators} == {
        "", *document["streams"]}


def test_the_table_is_narrow_and_complete(tmp_path):
    program, path = stored(tmp_path, SEED)
    run = edgesvit("inspect", path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert max(map(len, lines)) <= 150
    assert [line.split()[0] for line in lines[2:2 + len(program.ops)]] == [
        type(op).__name__ for op in program.ops]
    assert lines[2 + len(program.ops)].startswith("all")
    assert "s0: " in run.stdout and "to be pruned together" in run.stdout


def test_the_plot_is_an_svg_of_the_same_numbers(tmp_path):
    program, path = stored(tmp_path, SEED)
    picture = tmp_path / "work.svg"
    run = edgesvit("inspect", path, "--plot", str(picture))
    assert run.returncode == 0 and "work.svg" in run.stderr
    texts = {text.text for text in ElementTree.parse(picture).iter(
        "{http://www.w3.org/2000/svg}text")}
    assert {row.output for row in work(program, program.check.image[None]) if row.macs} < texts


def test_a_plot_of_another_kind_is_one_clear_line(tmp_path):
    run = edgesvit("inspect", "--plot", str(tmp_path / "work.png"))
    assert run.returncode == 2 and run.stdout == "" and not (tmp_path / "work.png").exists()
    assert "SVG" in run.stderr and len(run.stderr.splitlines()) == 2


def test_event_frames_without_an_image_of_their_own(tmp_path):
    program, path = stored(tmp_path, EVENTS, check=False)
    assert program.input.kind == Kind.LEVELS and program.time_steps > 1
    document = answer(edgesvit("inspect", path, "--json"))
    assert document["operators"][0]["rate"] == 0 and np.isfinite(document["total"]["field_mj"])


def test_images_of_another_shape_are_one_clear_line(tmp_path):
    _, path = stored(tmp_path, SEED)
    run = edgesvit("inspect", path, "--data", "digits")
    assert run.returncode == 2 and "(8, 8, 1)" in run.stderr and "Traceback" not in run.stderr
