import errno
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from edgesvit import disk
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.models.config import spikformer
from edgesvit.run_folder import ModelCard, RunFolder

CONFIG = spikformer((8, 8), 1, 10, dim=16, depth=1, heads=2)


def card(**changes) -> ModelCard:
    return ModelCard(**{"config": CONFIG, "mean": (0.5,), "std": (0.25,), "labels": ("a", "b"),
                        "data": "digits", "metrics": {"test_accuracy": 0.5}, **changes})


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "one")


def test_model_round_trip(folder):
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.array(3)}
    folder.write_model(card(notes="x"), weights)
    assert folder.card() == card(notes="x")
    assert folder.card().schema_version == 1
    loaded = folder.weights()
    assert np.array_equal(loaded["a"], weights["a"]) and loaded["n"].shape == ()
    assert sorted(p.name for p in folder.path.iterdir()) == ["model.json", "weights.safetensors"]
    assert folder.program_path.name == "program.esv"


def test_torch_tensors_keep_their_logical_order(folder):
    torch = pytest.importorskip("torch", reason="needs torch")
    weight = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)
    folder.write_model(card(), {"w": weight.requires_grad_()})
    assert np.array_equal(folder.weights()["w"], np.arange(24.0).reshape(2, 3, 2, 2))


def test_the_hash_follows_the_weights(folder):
    folder.write_model(card(), {"a": np.zeros(2)})
    first = folder.weights_sha256()
    folder.write_model(card(notes="same weights"), {"a": np.zeros(2)})
    assert folder.weights_sha256() == first
    folder.write_model(card(), {"a": np.ones(2)})
    assert folder.weights_sha256() != first


def test_missing_and_damaged_files_say_what_to_do(folder):
    for read in (folder.card, folder.weights):
        with pytest.raises(UsageError, match="holds no model") as caught:
            read()
        assert "edgesvit train" in caught.value.hint
    folder.write_model(card(), {"a": np.zeros(2)})
    whole = folder.card_path.read_bytes()
    for damaged in (whole[:40], b"{}", whole.replace(b'"time_steps": 4', b'"time_steps": 99')):
        folder.card_path.write_bytes(damaged)
        with pytest.raises(UsageError, match="model.json is damaged"):
            folder.card()
    folder.weights_path.write_bytes(folder.weights_path.read_bytes()[:50])
    with pytest.raises(UsageError, match="weights.safetensors is damaged"):
        folder.weights()


def test_results_are_appended(folder):
    assert folder.results() == []
    for i in range(3):
        folder.append_result({"run": i, "text": "ä\nb"})
    assert [r["run"] for r in folder.results()] == [0, 1, 2]
    assert folder.results_path.read_bytes().count(b"\n") == 3


def test_a_torn_line_costs_only_itself(folder):
    folder.append_result({"run": 0})
    with open(folder.results_path, "ab") as file:
        file.write(b'{"run": 1, "sam')
    assert folder.results() == [{"run": 0}]
    folder.append_result({"run": 2})
    assert folder.results() == [{"run": 0}, {"run": 2}]


def test_a_full_disk_leaves_earlier_results(folder, monkeypatch):
    folder.append_result({"run": 0})
    before = folder.results_path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(EdgesvitError, match="the disk is full") as caught:
        folder.append_result({"run": 1})
    assert "\n" not in caught.value.message and caught.value.exit_code == 1
    assert folder.results_path.read_bytes() == before


def test_a_full_disk_keeps_the_old_model(folder, monkeypatch):
    folder.write_model(card(notes="old"), {"a": np.zeros(2)})
    sync, calls = os.fsync, []

    def full_at_the_second(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(disk.os, "fsync", full_at_the_second)
    with pytest.raises(EdgesvitError, match="the disk is full"):
        folder.write_model(card(notes="new"), {"a": np.ones(2)})
    assert folder.card().notes == "old" and not folder.weights()["a"].any()
    assert not list(folder.path.glob("*.part"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device(folder):
    folder.path.mkdir(parents=True)
    folder.results_path.symlink_to("/dev/full")
    with pytest.raises(EdgesvitError, match="the disk is full"):
        folder.append_result({"run": 1})


def test_unknown_fields_of_a_later_version_are_read_over(folder):
    folder.write_model(card(), {"a": np.zeros(2)})
    content = msgspec.json.decode(folder.card_path.read_bytes())
    folder.card_path.write_bytes(msgspec.json.encode({**content, "later": 1}))
    assert folder.card() == card()


def test_a_card_is_read_without_torch():
    code = "import edgesvit.run_folder, edgesvit.data, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
