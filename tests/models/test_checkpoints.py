import msgspec
import pytest
import torch
from safetensors.torch import save_file

from edgesvit.errors import UsageError
from edgesvit.models.checkpoints import load_checkpoint, model_from_arrays
from edgesvit.models.config import spikformer
from edgesvit.models.spikformer import build

SHAPE = {"heads": 2, "image_size": (8, 8), "time_steps": 2, "pool": "0001"}


@pytest.fixture
def model():
    torch.manual_seed(1)
    config = spikformer((8, 8), 1, 4, dim=16, depth=2, heads=2, time_steps=2, pool="0001")
    return build(msgspec.structs.replace(
        config, stem=(3, 4, 6, 16), qk_dims=(8, 4), v_dims=(6, 8), hidden_dims=(64, 20))).eval()


@pytest.fixture
def tensors(model):
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def write(path, tensors):
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth", "m.pt"])
def test_shape_and_weights_come_back(tmp_path, model, tensors, name):
    loaded = load_checkpoint(write(tmp_path / name, tensors), **SHAPE)
    assert loaded.model.config == model.config
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.model(images), model(images))
    assert not loaded.model.training


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_nested_and_prefixed_keys_are_found(tmp_path, model, tensors, key):
    nested = {key: {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3}
    loaded = load_checkpoint(write(tmp_path / "m.pth", nested), **SHAPE)
    assert loaded.model.config == model.config


def test_dead_keys_are_reported(tmp_path, tensors):
    tensors |= {"block.0.norm1.weight": torch.ones(16), "block.1.norm2.bias": torch.ones(16)}
    loaded = load_checkpoint(write(tmp_path / "m.pth", tensors), **SHAPE)
    assert loaded.dead_keys == ("block.0.norm1.weight", "block.1.norm2.bias")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("head.weight"), "lacks the tensor head.weight"),
        (lambda t: t.pop("block.1.mlp.fc2_bn.running_var"), "block.1.mlp.fc2_bn.running_var"),
        (lambda t: t.update({"block.0.attn.x": torch.ones(1)}), "block.0.attn.x has no place"),
        (lambda t: t.update({"head.bias": torch.ones(3)}), r"head.bias is \[3\].*needs \[4\]"),
        (lambda t: t.update({"head.weight": torch.ones(3)}), "head.weight has 1 axes, not 2"),
        (lambda t: [t.pop(n) for n in list(t) if n.startswith("block.")], "depth"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(tmp_path, tensors, change, words):
    change(tensors)
    with pytest.raises(UsageError, match=words) as caught:
        load_checkpoint(write(tmp_path / "m.pth", tensors), **SHAPE)
    assert "\n" not in caught.value.message


def test_heads_that_do_not_divide_are_refused(tmp_path, tensors):
    with pytest.raises(UsageError, match="block.0.attn.q_linear has 16 rows.*3 heads"):
        load_checkpoint(write(tmp_path / "m.pth", tensors), **(SHAPE | {"heads": 3}))


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "m.pth")
    with pytest.raises(UsageError, match="needs code of its own"):
        load_checkpoint(tmp_path / "m.pth", **SHAPE)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_cut_and_missing_files_are_refused(tmp_path, tensors, name):
    with pytest.raises(UsageError, match="no checkpoint file"):
        load_checkpoint(tmp_path / name, **SHAPE)
    path = write(tmp_path / name, tensors)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="is no whole"):
        load_checkpoint(path, **SHAPE)


def test_model_from_arrays_checks_names(model, tensors):
    arrays = {name: value.numpy() for name, value in tensors.items()}
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(model_from_arrays(model.config, arrays)(images), model(images))
    del arrays["head.bias"]
    with pytest.raises(UsageError, match="head.bias"):
        model_from_arrays(model.config, arrays)
