"""`edgesvit deploy` and its neighbours, called as a user calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgesvit.models.config import spikformer
from edgesvit.run_folder import ModelCard, RunFolder
from tests import processes

ROOT = Path(__file__).parents[2]


def edgesvit(*arguments: str, cwd: Path = ROOT, **run) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "edgesvit", *arguments], cwd=cwd, text=True,
                          capture_output=True, env=environment, timeout=280, **run)


def answer(run: subprocess.CompletedProcess) -> dict:
    document = json.loads(run.stdout)
    assert document["schema_version"] == 1
    return document


def test_deploy_to_the_host_proves_the_logits(tmp_path):
    run = edgesvit("deploy", "--target", "host", "--images", "30", "--json", "--run",
                   str(tmp_path / "run"))
    assert run.returncode == 0, run.stderr
    [result] = answer(run)["results"]
    assert result["logits_equal"] == result["images"] == 30
    assert result["accuracy"] >= 98 and result["accuracy_images"] == 360
    assert result["label"] == "measured" and len(result["latency_us"]["all"]) == 30
    used = {row["use"]: row for row in result["memory"]}
    assert used["weights"]["linked_bytes"] == used["weights"]["estimated_bytes"] < 150_000
    assert used["arena"]["observed_bytes"] <= used["arena"]["linked_bytes"]
    [stored] = RunFolder(tmp_path / "run").results()
    assert stored["program_crc32"] == result["program_crc32"]


def test_threads_give_the_same_logits_and_are_written_down(tmp_path):
    run = edgesvit("deploy", "--target", "host", "--images", "3", "--threads", "3", "--json",
                   "--run", str(tmp_path / "run"))
    assert run.returncode == 0, run.stderr
    [result] = answer(run)["results"]
    assert result["logits_equal"] == 3 and result["environment"]["threads"] == 3
    assert result["environment"]["kernels"] and result["environment"]["work_bytes"] > 0


def test_results_are_appended_and_the_table_is_the_answer(tmp_path):
    for _ in range(2):
        run = edgesvit("deploy", "--target", "host", "--images", "3", "--run", str(tmp_path))
        assert run.returncode == 0, run.stderr
    assert "3/3" in run.stdout and "results.jsonl" in run.stderr
    assert len(RunFolder(tmp_path).results()) == 2


def wide_model(folder: Path, dim: int) -> Path:
    """A run folder with an untrained, wide Spikformer for digits."""
    torch = pytest.importorskip("torch")
    from edgesvit.models.spikformer import build

    torch.manual_seed(0)
    config = spikformer((8, 8), 1, 10, dim=dim, depth=2, heads=4, pool="0001")
    card = ModelCard(config=config, mean=(78 / 255,), std=(0.37,), data="digits",
                     labels=tuple("0123456789"))
    RunFolder(folder).write_model(card, build(config).state_dict())
    return folder


def test_a_model_that_does_not_fit(tmp_path):
    model = wide_model(tmp_path / "wide", 256)
    run = edgesvit("deploy", "--model", str(model), "--target", "qemu-netduinoplus2",
                   "--no-compress", "--run", str(tmp_path / "run"))
    assert run.returncode == 3
    assert "error: does not fit qemu-netduinoplus2: needs" in run.stderr
    assert "weights of" in run.stderr and "hint: edgesvit compress --model" in run.stderr
    assert run.stdout == ""


def test_compress_makes_it_fit(tmp_path):
    model = wide_model(tmp_path / "wide", 256)
    profile = tmp_path / "any.toml"
    profile.write_text('name = "any"\ntitle = "memory only"\n')  # untrained: accuracy is chance
    run = edgesvit("compress", "--model", str(model), "--target", "qemu-netduinoplus2",
                   "--profile", str(profile), "--run", str(tmp_path / "small"), "--json")
    assert run.returncode == 0, run.stderr
    small = RunFolder(tmp_path / "small").card()
    assert small.parent == RunFolder(model).weights_sha256()
    assert max(small.config.hidden_dims) < 1024
    lowered = edgesvit("lower", "--model", str(tmp_path / "small"), "--target", "host", "--run",
                       str(tmp_path / "run"), "--json")
    assert lowered.returncode == 0, lowered.stderr
    assert (tmp_path / "run" / "program.esv").stat().st_size < 1 << 20


@pytest.mark.emulated
def test_deploy_compresses_what_does_not_fit(tmp_path):
    model = wide_model(tmp_path / "wide", 256)
    profile = tmp_path / "any.toml"
    profile.write_text('name = "any"\ntitle = "memory only"\n')
    run = edgesvit("deploy", "--model", str(model), "--target", "qemu-netduinoplus2", "--images",
                   "2", "--profile", str(profile), "--run", str(tmp_path / "run"), "--json")
    assert run.returncode == 0, run.stderr
    [result] = answer(run)["results"]
    assert result["model"] == "fit-qemu-netduinoplus2" and result["logits_equal"] == 2
    weights = next(row for row in result["memory"] if row["use"] == "weights")
    assert weights["linked_bytes"] < weights["region_budget_bytes"]


def test_accuracy_lost_beyond_the_profile_is_infeasible(tmp_path):
    profile = tmp_path / "strict.toml"
    profile.write_text('name = "strict"\ntitle = "x"\nweights_bytes = 60000\n'
                       "max_accuracy_drop = 0.5\n")
    run = edgesvit("compress", "--target", "qemu-netduinoplus2", "--profile", str(profile),
                   "--run", str(tmp_path / "small"))
    assert run.returncode == 3
    assert "INFEASIBLE" in run.stderr and "accuracy falls by" in run.stderr
    assert (tmp_path / "small" / "model.json").exists()


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["deploy", "--target", "nowhere"], 2, "unknown target 'nowhere'"),
    (["deploy"], 2, "Missing option '--target'"),
    (["deploy", "--target", "host", "--images", "0"], 2, "0"),
    (["deploy", "--target", "host", "--images", "5000"], 2, "360 held-out images"),
    (["deploy", "--target", "host", "--model", "no/such/folder"], 2, "no/such/folder"),
    (["deploy", "--target", "host", "--profile", "huge"], 2, "unknown profile"),
    (["deploy", "--target", "host", "--data", "cifar10:/nowhere"], 2, "/nowhere"),
    (["inspect", "/no/such/file.esv"], 1, "/no/such/file.esv"),
    (["juggle"], 2, "juggle"),
])
def test_wrong_use_is_one_clear_line(arguments, code, words, tmp_path):
    run = edgesvit(*arguments, cwd=tmp_path)
    assert run.returncode == code
    assert words in run.stderr and "Traceback" not in run.stderr
    assert run.stdout == ""


def test_errors_are_json_too():
    run = edgesvit("deploy", "--target", "nowhere", "--json")
    assert run.returncode == 2
    error = answer(run)["error"]
    assert error["exit_code"] == 2 and "nowhere" in error["message"]


def test_one_target_that_fails_does_not_lose_the_others(tmp_path):
    model = wide_model(tmp_path / "wide", 256)
    run = edgesvit("deploy", "--model", str(model), "--target", "qemu-netduinoplus2,host",
                   "--no-compress", "--images", "2", "--run", str(tmp_path / "run"), "--json")
    assert run.returncode == 3
    document = answer(run)
    assert [r["target"] for r in document["results"]] == ["host"]
    assert [e["target"] for e in document["errors"]] == ["qemu-netduinoplus2"]


def test_inspect_lists_the_operators():
    run = edgesvit("inspect", "--json")
    assert run.returncode == 0, run.stderr
    document = answer(run)
    operators = [op["operator"] for op in document["operators"]]
    assert operators[0] == "EncodeConv" and operators[-1] == "Classify"
    assert "SelfAttention" in operators and document["label"] == "estimated"
    for op in document["operators"]:
        if op["operator"] == "SpikeConv":
            assert 0 < op["sops"] < op["macs"] and 0 < op["rate"] <= 2 and 0 < op["union"] <= 1


def test_targets_lists_every_board():
    run = edgesvit("targets", "--json")
    names = [target["name"] for target in answer(run)["targets"]]
    assert "host" in names and "qemu-mps3-an547" in names


def test_a_full_disk_keeps_earlier_results(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)],
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        first = edgesvit("deploy", "--target", "host", "--images", "3", "--run", str(folder))
        assert first.returncode == 0, first.stderr
        before = RunFolder(folder).results_path.read_bytes()
        with open(folder / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError):
            while True:
                ballast.write(bytes(1024))
        run = edgesvit("deploy", "--target", "host", "--images", "3", "--run", str(folder))
        assert run.returncode == 1
        assert "the disk is full" in run.stderr and "Traceback" not in run.stderr
        assert RunFolder(folder).results_path.read_bytes() == before
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.emulated
def test_ctrl_c_ends_at_once_and_leaves_nothing_behind(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = edgesvit("deploy", "--target", "host", "--images", "2", "--run", str(tmp_path))
    assert first.returncode == 0, first.stderr
    run = subprocess.Popen(
        [sys.executable, "-m", "edgesvit", "deploy", "--target", "qemu-mps2-an386", "--images",
         "360", "--run", str(tmp_path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True)
    emulators = wait_for_child(run.pid, "qemu-system-arm")
    time.sleep(1)
    os.kill(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130, errors
    assert "interrupted" in errors and "Traceback" not in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in emulators)
    assert len(RunFolder(tmp_path).results()) == 1


def wait_for_child(parent: int, name: str) -> list[int]:
    """The children of `parent` called `name`; fails when none appears within a minute."""
    for _ in range(600):
        if found := [pid for pid in processes.children(parent) if processes.name(pid) == name]:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {name} was started")


def test_results_do_not_depend_on_the_folder_they_run_in(tmp_path):
    run = edgesvit("deploy", "--target", "host", "--images", "2", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "runs" / "spikformer-digits" / "results.jsonl").exists()


def test_the_shipped_program_is_small_and_right():
    folder = RunFolder(ROOT / "edgesvit/models/trained/spikformer-digits")
    total = sum(w.nbytes for w in folder.weights().values())
    assert total < 4 * 150_000 and np.all([np.isfinite(w).all() for w in folder.weights().values()])


def test_a_qkformer_trains_and_deploys(tmp_path):
    pytest.importorskip("torch")
    small = ("--family", "qkformer", "--dim", "32", "--depth", "3", "--heads", "8")
    run = edgesvit("train", "--data", "digits", "--run", str(tmp_path / "qk"), "--epochs", "1",
                   *small)
    assert run.returncode == 0 and "qkformer, 36,038 parameters" in run.stdout, run.stderr
    deployed = edgesvit("deploy", "--model", str(tmp_path / "qk"), "--target", "host", "--images",
                        "4", "--run", str(tmp_path / "run"), "--json")
    assert deployed.returncode == 0, deployed.stderr
    [result] = answer(deployed)["results"]
    assert result["logits_equal"] == 4
    pruned = edgesvit("compress", "--model", str(tmp_path / "qk"), "--target", "nucleo-f446re",
                      "--run", str(tmp_path / "small"))
    assert pruned.returncode == 0, pruned.stderr  # it fits as it is
    wrong = edgesvit("train", "--data", "digits", "--run", str(tmp_path / "x"), *small, "--pool",
                     "0011")
    assert wrong.returncode == 2 and "--pool" in wrong.stderr
