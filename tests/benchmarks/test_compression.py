"""The methods' benchmark: its rows say what the commands left in their folders."""

import pytest

pytest.importorskip("torch")

import compression  # noqa: E402

from edgesvit.cli.options import model_folder  # noqa: E402
from edgesvit.evaluate import unchecked_program  # noqa: E402
from edgesvit.program.file import to_bytes  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402


@pytest.mark.parametrize("path", sorted(compression.REFERENCE.iterdir()), ids=lambda p: p.name)
def test_reference_models_become_programs(path):
    folder = RunFolder(path)
    card = folder.card()
    assert card.metrics["integer_accuracy"] > 0.6 and card.command.startswith("edgesvit train")
    program = unchecked_program(card, folder.weights())
    assert program.ops[-1].weight.shape[1] == len(card.labels)
    assert len(to_bytes(program)) < path.joinpath("weights.safetensors").stat().st_size


def test_a_row_is_what_its_commands_reached(tmp_path):
    source = model_folder("spikformer-digits")
    row = compression.Row("qsvit", "--max-drop 6 --search-images 100", 75.0, 0.5, 0.4)
    whole_mj = compression.energy_mj(source, [])
    found = compression.measure(row, source, tmp_path, [], "", whole_mj)
    [place] = tmp_path.iterdir()
    card = RunFolder(place).card()
    bits = set(card.layer_bits.values())
    assert 100 * (1 - 8 / 32) < found["saved"] < 100 * (1 - min(bits) / 32)
    assert found["after"] == pytest.approx(100 * card.metrics["integer_accuracy"])
    assert found["before"] == pytest.approx(99.72, abs=0.01) and found["energy"] > 0
    line = compression.shown(found)
    assert line[0] == f"qsvit {row.options}" and line[2] == ">= 75"
    assert line[4:8] == (f"{found['before'] - found['after']:.2f}", "<= 0.5", "", "<= 0.4")


def test_what_fails_ends_the_benchmark(tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        compression.edgesvit("inspect", "--model", str(tmp_path / "none"))
    assert caught.value.code == 2 and "none" in capfd.readouterr().err
