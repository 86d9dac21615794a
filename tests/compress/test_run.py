"""A method on a trained model, from run folder to run folder, judged by the C runtime."""

import json

import msgspec
import pytest

from edgesvit import profiles, targets
from edgesvit.cli import main
from edgesvit.cli.compress import METHODS
from edgesvit.compress import methods, psvit, shrink
from edgesvit.compress.channels import groups
from edgesvit.compress.fine_tune import recipe
from edgesvit.compress.judge import Judge
from edgesvit.compress.losses import losses
from edgesvit.compress.prunable import Infeasible
from edgesvit.compress.run import SEARCH_FILE, compress
from edgesvit.compress.setting import WHOLE, Setting, apply
from edgesvit.data import load
from edgesvit.errors import UsageError
from edgesvit.evaluate import integer_accuracy, program_of, unchecked_program
from edgesvit.program import file
from edgesvit.program.file import to_bytes
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.training.settings import TrainSettings

FEW = methods.Request(images=200, groups=("hidden",), save_memory=20)


def source(family: str) -> RunFolder:
    return RunFolder(shipped_model(f"{family}-digits"))


def edgesvit(*arguments: object) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


@pytest.mark.parametrize("family", ["spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "qkformer"])
def test_pruned_trained_models_are_counted_by_their_files(family, tmp_path):
    judge = Judge(source(family), "digits", tmp_path / "store", images=50)
    kept = {group.name: max(group.size // 2, 1) for group in groups(judge.card.config)
            if group.kind in ("hidden", "qk", "v", "attention", "conv")}
    verdict = judge(Setting(kept=kept))
    folder = RunFolder(tmp_path / "run")
    folder.write_model(*apply(Setting(kept=kept), judge.card, judge.weights))
    program = program_of(folder.card(), folder.weights(), judge_images(judge))
    file.write(program, folder.program_path)
    assert folder.program_path.stat().st_size == verdict.program_bytes
    assert verdict.program_bytes < 0.8 * judge.whole.program_bytes
    assert integer_accuracy(program, judge_images(judge)) == verdict.accuracy


def judge_images(judge: Judge):
    from edgesvit.compress.judge import search_images
    return search_images(*judge.task[1:])


def test_a_search_writes_what_it_reports_and_resumes(tmp_path):
    out = RunFolder(tmp_path / "out")
    report = compress(source("sdt_v1"), out, "psvit", FEW)
    test = load("digits", "test")
    program = file.read(out.program_path)
    assert integer_accuracy(program, test) == report.test_accuracy
    assert report.saved >= 20 and report.found.accuracy >= report.whole.accuracy - 3
    assert report.found.program_bytes == report.program_bytes == out.program_path.stat().st_size
    assert {row.name for row in report.losses} == set(report.setting.kept)
    assert sum(row.saved_bytes for row in report.losses) == pytest.approx(
        report.whole.program_bytes - report.found.program_bytes, abs=300)
    assert out.results()[-1]["saved_percent"] == report.saved
    assert out.card().parent == source("sdt_v1").weights_sha256()
    # Half of the answers are lost, as when the search was killed: it ends alike.
    rows = (out.path / SEARCH_FILE).read_text().splitlines(keepends=True)
    again = RunFolder(tmp_path / "again")
    again.path.mkdir()
    (again.path / SEARCH_FILE).write_text("".join(rows[:len(rows) // 2]) + rows[-1][:20])
    assert compress(source("sdt_v1"), again, "psvit", FEW).setting == report.setting
    assert (again.path / "weights.safetensors").read_bytes() == (
        out.path / "weights.safetensors").read_bytes()


def test_losses_are_those_of_each_part_alone(tmp_path):
    judge = Judge(source("spikformer"), "digits", tmp_path / "store", images=100)
    setting = Setting(kept={"hidden.0": 64, "qk.1": 4}, bits={"head": 4}, time_steps=2)
    rows = {row.name: row for row in losses(judge, setting)}
    assert rows["qk.1"].before == 48 and rows["qk.1"].after == 12 and rows["qk.1"].rate == 0.75
    alone = judge(Setting(kept={"hidden.0": 64}))
    assert rows["hidden.0"].saved_bytes == judge.whole.program_bytes - alone.program_bytes
    assert rows["hidden.0"].drop == judge.whole.accuracy - alone.accuracy
    assert (rows["head"].lever, rows["head"].before, rows["head"].after) == ("bits", 8, 4)
    assert (rows["T"].before, rows["T"].after) == (4, 2)
    assert losses(judge, WHOLE) == []


def test_nothing_to_lose_gives_the_very_model(tmp_path):
    out = RunFolder(tmp_path)
    request = methods.Request(images=100, max_drop=0)
    report = compress(source("qkformer"), out, "primesvt", request)
    assert report.setting == WHOLE and report.saved == 0
    given = source("qkformer")
    assert to_bytes(unchecked_program(out.card(), out.weights())) == to_bytes(
        unchecked_program(given.card(), given.weights()))


def test_smaller_models_are_trained_on_as_the_first_was(tmp_path):
    first, smaller, smallest = (RunFolder(tmp_path / name) for name in ("1", "2", "3"))
    given = source("spikformer")
    first.write_model(given.card(), given.weights())
    settings = TrainSettings(data="digits", run="1", crop_share=0.7, shift_px=3)
    (first.path / "train.json").write_bytes(msgspec.json.encode(settings))
    request = msgspec.structs.replace(FEW, save_memory=5)
    compress(first, smaller, "primesvt", request)
    compress(smaller, smallest, "primesvt", request)
    assert recipe(given) == {}
    for folder in (first, smaller, smallest):
        assert (recipe(folder)["crop_share"], recipe(folder)["shift_px"]) == (0.7, 3)


def test_the_impossible_keeps_the_best_model(tmp_path):
    out = RunFolder(tmp_path)
    request = methods.Request(images=100, groups=("hidden",), save_memory=90)
    with pytest.raises(Infeasible, match="at the highest rate they save .* that model is in"):
        compress(source("sdt_v1"), out, "psvit", request)
    best = out.results()[-1]
    assert best["found"]["accuracy"] >= best["whole"]["accuracy"] - psvit.Options().max_drop
    assert 10 < best["saved_percent"] < 90
    assert out.card().config.hidden_dims < source("sdt_v1").card().config.hidden_dims


SHRINK = methods.Request(
    images=100, groups=("hidden", "stream"), levers=("channels", "bits"), save_memory=65, rounds=2,
    targets=(targets.load("nucleo-f446re"),), profile=profiles.load("fit"), max_drop=20.0)


def test_rounds_of_search_and_training(tmp_path):
    out = RunFolder(tmp_path / "out")
    report = compress(source("spikformer"), out, "fit", SHRINK, fine_tune=1)
    assert report.saved > 64 and len(report.rounds) == 2 and report.fine_tuned_epochs == 2
    sizes = [done.program_bytes for done in report.rounds]
    assert report.whole.program_bytes > sizes[0] > sizes[1]
    assert sizes[1] == out.program_path.stat().st_size
    assert report.rounds[1].unmet == () and report.rounds[0].unmet == ("program",)
    assert report.rounds[1].accuracy_before == report.rounds[0].accuracy
    # Widths are taken in the last round alone.
    assert all(done.setting.bits for done in report.rounds)
    taken = [RunFolder(out.path / f"round-{i}" / "tuned").card().layer_bits for i in (1, 2)]
    assert not taken[0] and taken[1] == report.rounds[1].setting.bits
    test = load("digits", "test")
    assert integer_accuracy(file.read(out.program_path), test) == report.test_accuracy_fine_tuned
    assert "round 2, trained" in {point.what for point in report.frontier}
    assert out.card().parent == source("spikformer").weights_sha256()
    tuned = (out.path / "round-2" / "tuned" / "weights.safetensors").read_bytes()
    assert tuned == (out.path / "weights.safetensors").read_bytes()
    # The same command finds everything done; another one does not mix with it.
    again = compress(source("spikformer"), out, "fit", SHRINK, fine_tune=1)
    assert again.rounds == report.rounds
    with pytest.raises(UsageError, match="from another search"):
        compress(source("spikformer"), out, "fit",
                 msgspec.structs.replace(SHRINK, save_memory=40), fine_tune=1)


def test_a_limit_that_training_broke_is_kept_by_another_round(tmp_path, monkeypatch):
    monkeypatch.setattr(shrink, "MARGIN", -0.15)  # ends above the limit, as if training had
    request = msgspec.structs.replace(SHRINK, rounds=1, save_memory=0, save_instructions=30,
                                      levers=("channels",))
    report = compress(source("spikformer"), RunFolder(tmp_path), "fit", request, fine_tune=1)
    first, *trims = report.rounds
    assert first.unmet == ("instructions",) and 1 <= len(trims) <= len(shrink.TRIM_MARGINS)
    assert trims[-1].unmet == () and trims[0].accuracy_before == first.accuracy
    assert report.fine_tuned_epochs == 1 + len(trims)
    assert trims[-1].program_bytes == (tmp_path / "program.esv").stat().st_size


def test_what_training_does_not_win_back_is_told(tmp_path):
    out = RunFolder(tmp_path / "out")
    request = msgspec.structs.replace(SHRINK, rounds=1, save_memory=80, max_drop=0.1)
    with pytest.raises(Infeasible, match="after 1 epochs of fine-tuning .* allowed are 0.1"):
        compress(source("spikformer"), out, "fit", request, fine_tune=1)
    assert out.results()[-1]["saved_percent"] > 79


def test_the_command(tmp_path, capsys):
    run = tmp_path / "run"
    asked = ("compress", "--model", "sdt_v1-digits", "--run", run, "--groups", "hidden",
             "--search-images", 100)
    assert edgesvit(*asked, "--method", "primesvt", "--save-memory", 15, "--fine-tune", 1,
                    "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["saved_percent"] >= 15 and answer["fine_tuned_epochs"] == 1
    assert answer["test_accuracy_fine_tuned"] == pytest.approx(
        100 * RunFolder(run).card().metrics["integer_accuracy"])
    assert file.read(run / "program.esv").check is not None
    assert edgesvit("compress", "--model", "sdt_v1-digits") == 2
    assert "neither --method nor --target" in capsys.readouterr().err
    assert edgesvit(*asked, "--method", "primesvt", "--save-memory", 80) == 3
    assert "INFEASIBLE" in capsys.readouterr().err


def test_the_command_shows_what_there_is_to_choose_from(tmp_path, capsys):
    asked = ("compress", "--method", "fit", "--target", "nucleo-f446re,qemu-user-a76",
             "--save-instructions", 10, "--levers", "time", "--max-drop", 20, "--search-images",
             100, "--plot", tmp_path / "choice.svg", "--run")
    assert edgesvit(*asked, tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "instructions qemu-user-a76, predicted" in said and "time steps" in said
    assert (tmp_path / "choice.svg").read_text().count("on qemu-user-a76") == 1
    assert edgesvit(*asked, tmp_path / "again", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"program_bytes", "instructions", "accuracy", "setting"} <= answer["frontier"][0].keys()
    assert edgesvit(*asked[:-2], tmp_path / "choice.png") == 2


def test_the_command_knows_every_method():
    assert tuple(methods.METHODS) == METHODS
