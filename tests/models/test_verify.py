import json
import shutil

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgesvit.errors import UsageError
from edgesvit.models.config import qkformer
from edgesvit.models.qkformer import build
from edgesvit.models.verify import run, verify

FIXTURES = ("spikformer/public", "spikformer_cifar/public", "sdt_v1/public", "sdt_v2/public",
            "sdt_v3/public", "sdt_v3_large/public", "sdt_v3_large/base_injected",
            "qkformer/public", "qkformer_cifar/public")


@pytest.mark.parametrize("place", FIXTURES)
def test_every_family_equals_the_official_code(shared, place):
    found = verify(shared / "fixtures" / place)
    assert found.equal
    assert found.batch_difference <= 1e-4 and found.single_difference <= 1e-4
    assert found.spike_mismatches == 0 < found.spikes_compared and len(found.neurons_compared) > 4
    listed = json.loads((shared / "fixtures" / place / "meta.json").read_text())
    assert found.parameters == listed["params"] and found.images == 4


def test_dead_keys_are_named(shared):
    assert verify(shared / "fixtures/sdt_v1/public").dead_keys == (
        "block.0.attn.talking_heads.weight", "block.1.attn.talking_heads.weight")


def test_qkformer_says_what_its_neuron_means(shared):
    [note] = verify(shared / "fixtures/qkformer_cifar/public").notes
    assert "released accuracies need this neuron" in note and "batch 1" in note
    assert verify(shared / "fixtures/spikformer_cifar/public").notes == ()


SETTINGS = {"config": {"img": 16, "num_heads": 2, "T": 2, "proj_lif_axis": "time"}}


@pytest.fixture
def folder(tmp_path):
    """A folder as a user would make one, from a small QKFormer and what it computes itself."""
    torch.manual_seed(0)
    model = build(qkformer((16, 16), 3, 4, dim=32, depth=4, heads=2, form="imagenet",
                           time_steps=2)).eval()
    x = 3 * torch.randn(2, 3, 16, 16)
    logits, spikes = run(model, x, ("patch_embed1.proj_lif", "stage3.0.attn.q_lif"))
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, tmp_path / "state_dict.safetensors")
    (tmp_path / "meta.json").write_text(json.dumps(SETTINGS))
    np.savez(tmp_path / "io.npz", x=x, logits=logits, logits_single=logits)
    np.savez(tmp_path / "spikes.npz",
             **{name: out.numpy().astype(np.uint8) for name, out in spikes.items()})
    return tmp_path


def test_a_users_own_folder(folder):
    found = verify(folder)
    assert found.equal and found.notes == ()
    assert found.neurons_compared == ("patch_embed1.proj_lif", "stage3.0.attn.q_lif")
    (folder / "spikes.npz").unlink()
    assert verify(folder).equal and verify(folder).spikes_compared == 0
    assert msgspec.json.encode(found)


def rewrite(path, **arrays):
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files} | arrays
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def test_one_spike_more_is_found(folder):
    with np.load(folder / "spikes.npz") as stored:
        spikes = stored["stage3.0.attn.q_lif"].copy()
    spikes[0, 1, 2, 0] ^= 1
    rewrite(folder / "spikes.npz", **{"stage3.0.attn.q_lif": spikes})
    found = verify(folder)
    assert not found.equal and found.spike_mismatches == 1


def test_spikes_of_another_size_are_all_wrong(folder):
    rewrite(folder / "spikes.npz", **{"stage3.0.attn.q_lif": np.zeros((2, 2), np.uint8)})
    assert verify(folder).spike_mismatches == 4


@pytest.mark.parametrize("wrong", ["logits", "logits_single"])
def test_other_logits_and_nan_are_found(folder, wrong):
    with np.load(folder / "io.npz") as stored:
        logits = stored["logits"].copy()
    for value in (logits[0, 0] + 2e-4, np.nan):
        logits[0, 0] = value
        rewrite(folder / "io.npz", **{wrong: logits})
        assert not verify(folder).equal


def test_another_setting_is_found(folder):
    (folder / "meta.json").write_text(json.dumps({"config": SETTINGS["config"] | {"T": 1}}))
    assert not verify(folder).equal


@pytest.mark.parametrize("name", ["state_dict.safetensors", "meta.json", "io.npz"])
def test_missing_and_cut_files_are_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match=name) as caught:
        verify(folder)
    assert "\n" not in caught.value.message
    path.unlink()
    with pytest.raises(UsageError, match=f"no .*file .*{name}"):
        verify(folder)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(UsageError, match="no file .*nowhere/meta.json"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize(("arrays", "words"), [
    ({"x": None}, "io.npz lacks the array x"),
    ({"logits_single": None}, "io.npz lacks the array logits_single"),
    ({"x": np.zeros((2, 1, 16, 16))}, r"x of shape \[2, 1, 16, 16\] does not pass"),
    ({"x": np.zeros((0, 3, 16, 16))}, "does not pass"),
    ({"x": np.zeros(3)}, "does not pass"),
    ({"x": np.array(["a"])}, "x holds no numbers"),
    ({"logits": np.zeros((2, 5))}, r"logits is \[2, 5\], the model gives \[2, 4\]"),
])
def test_arrays_that_do_not_fit_are_refused(folder, arrays, words):
    rewrite(folder / "io.npz", **arrays)
    with pytest.raises(UsageError, match=words) as caught:
        verify(folder)
    assert "\n" not in caught.value.message


def test_a_neuron_that_does_not_exist(folder):
    rewrite(folder / "spikes.npz", **{"stage9.lif": np.zeros(1, np.uint8)})
    with pytest.raises(UsageError, match="spikes.npz names stage9.lif"):
        verify(folder)


@pytest.mark.parametrize("content", ["{}", "[]", '{"config": 3}'])
def test_settings_without_config(folder, content):
    (folder / "meta.json").write_text(content)
    with pytest.raises(UsageError, match='has no "config"'):
        verify(folder)


def test_a_rounding_mistake_shows(shared, tmp_path):
    """Model_Base's weights with D = 8 instead of 4: the tensors fit, the logits do not."""
    source = shared / "fixtures" / "sdt_v3" / "public"
    shutil.copytree(source, tmp_path / "m", copy_function=shutil.copyfile)
    meta = json.loads((source / "meta.json").read_text())
    (tmp_path / "m" / "meta.json").write_text(json.dumps({"config": meta["config"] | {"D": 8}}))
    found = verify(tmp_path / "m")
    assert not found.equal and found.batch_difference > 0.1 and found.spike_mismatches > 0


def test_a_renamed_tensor_is_named(folder):
    tensors = load_file(folder / "state_dict.safetensors")
    tensors["stage3.0.attn.extra"] = torch.ones(1)
    save_file(tensors, folder / "state_dict.safetensors")
    with pytest.raises(UsageError, match="stage3.0.attn.extra has no place"):
        verify(folder)
