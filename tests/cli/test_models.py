"""`edgesvit models`, called as a user calls it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.cli.test_deploy import ROOT, answer, edgesvit

pytest.importorskip("torch")


def test_the_table_names_every_family():
    run = edgesvit("models")
    assert run.returncode == 0, run.stderr
    assert {line.split()[0] for line in run.stdout.splitlines()[2:]} == {
        "spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "sdt_v3_large", "qkformer"}
    assert "29,079,336       82.04  ImageNet-1K, T=4, 224x224" in run.stdout
    assert "batch-leaking" in run.stderr
    assert edgesvit("models", "list").stdout == run.stdout


@pytest.mark.parametrize("arguments", [("--json",), ("list", "--json")])
def test_the_list_as_json(arguments):
    rows = answer(edgesvit("models", *arguments))["models"]
    [row] = [row for row in rows if row["name"] == "qkformer-4-384-cifar10"]
    assert row["family"] == row["config"]["family"] == "qkformer"
    assert row["parameters"] == 6_706_234 and row["accuracy"] == 96.18 and row["source"]


def test_verify_a_released_form(shared):
    folder = str(shared / "fixtures" / "qkformer_cifar" / "public")
    run = edgesvit("models", "verify", folder)
    assert run.returncode == 0, run.stderr
    assert "released accuracies need this neuron" in run.stderr
    assert "largest logit difference, batch of 4" in run.stdout
    document = answer(edgesvit("models", "verify", folder, "--json"))
    assert document["equal"] and document["spike_mismatches"] == 0 and document["notes"]
    assert document["batch_difference"] <= 1e-4 and document["single_difference"] <= 1e-4


def test_a_difference_is_exit_code_5(shared, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(shared / "fixtures" / "sdt_v1" / "public", folder,
                    copy_function=shutil.copyfile)
    with np.load(folder / "io.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["logits"] = arrays["logits"] + 1e-3
    np.savez(folder / "io.npz", **arrays)
    run = edgesvit("models", "verify", str(folder))
    assert run.returncode == 5
    assert "1.00e-03" in run.stdout and "block.0.attn.talking_heads.weight" in run.stdout
    assert "error: " in run.stderr and "hint: " in run.stderr
    run = edgesvit("models", "verify", str(folder), "--json")
    assert run.returncode == 5 and not json.loads(run.stdout)["equal"]


def test_a_missing_folder_is_exit_code_2(tmp_path):
    run = edgesvit("models", "verify", str(tmp_path / "nowhere"))
    assert run.returncode == 2 and "nowhere/meta.json" in run.stderr and run.stdout == ""


def test_without_torch_one_line_says_what_to_install():
    code = ("import sys, importlib.util as u; find = u.find_spec\n"
            "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
            "from edgesvit.cli import main; main(['models'])")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "pip install 'edgesvit[train]'" in run.stderr
