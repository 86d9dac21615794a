import argparse
import json

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgesvit.errors import UsageError
from edgesvit.models import families
from edgesvit.models.checkpoints import load_checkpoint, model_from_arrays, read_tensors
from edgesvit.models.config import qkformer, spikformer
from edgesvit.models.spikformer import build

# What leaves no trace in the tensors, under the official names.
SHAPE = {"num_heads": 2, "img": 8, "T": 2, "pooling_stat": "0001"}


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
    loaded = load_checkpoint(write(tmp_path / name, tensors), SHAPE)
    assert loaded.model.config == model.config
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.model(images), model(images))
    assert not loaded.model.training


@pytest.mark.parametrize("key", ["model", "state_dict", "state_dict_ema"])
def test_nested_and_prefixed_keys_are_found(tmp_path, model, tensors, key):
    nested = {key: {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3}
    loaded = load_checkpoint(write(tmp_path / "m.pth", nested), SHAPE)
    assert loaded.model.config == model.config


def test_what_training_scripts_store_beside_the_weights_is_no_obstacle(tmp_path, model, tensors):
    """timm and DeiT scripts keep their arguments and a NumPy metric in the file."""
    stored = {"state_dict": tensors, "args": argparse.Namespace(lr=1e-3, model="x"),
              "metric": np.float64(73.4), "version": 2, "model_ema": {"head.bias": torch.ones(1)}}
    loaded = load_checkpoint(write(tmp_path / "m.pth.tar", stored), SHAPE)
    assert loaded.model.config == model.config


def test_dead_keys_are_reported(tmp_path, tensors):
    tensors |= {"block.0.norm1.weight": torch.ones(16), "block.1.norm2.bias": torch.ones(16)}
    loaded = load_checkpoint(write(tmp_path / "m.pth", tensors), SHAPE)
    assert loaded.dead_keys == ("block.0.norm1.weight", "block.1.norm2.bias")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("head.weight"), "lacks the tensor head.weight"),
        (lambda t: t.pop("block.1.mlp.fc2_bn.running_var"), "block.1.mlp.fc2_bn.running_var"),
        (lambda t: t.update({"block.0.attn.x": torch.ones(1)}), "block.0.attn.x has no place"),
        (lambda t: t.update({"head.bias": torch.ones(3)}), r"head.bias is \[3\].*needs \[4\]"),
        (lambda t: t.update({"head.weight": torch.ones(3)}), "head.weight has 1 axes, not 2"),
        (lambda t: [t.pop(n) for n in list(t) if n.startswith("block.")],
         "no known family.*spikformer.* is closest and needs block.0.attn.q_"),
        (lambda t: t.pop("block.0.attn.q_linear.weight"),
         "spikformer-4-256-cifar10 is closest and needs block.0.attn.q_linear.weight"),
        (lambda t: t.pop("patch_embed.proj_conv3.weight"),
         "is closest and needs patch_embed.proj_conv3.weight"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(tmp_path, tensors, change, words):
    change(tensors)
    with pytest.raises(UsageError, match=words) as caught:
        load_checkpoint(write(tmp_path / "m.pth", tensors), SHAPE)
    assert "\n" not in caught.value.message


def test_heads_that_do_not_divide_are_refused(tmp_path, tensors):
    with pytest.raises(UsageError, match="block.0.attn.q_linear has 16 rows.*3 heads"):
        load_checkpoint(write(tmp_path / "m.pth", tensors), SHAPE | {"num_heads": 3})


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "m.pth")
    with pytest.raises(UsageError, match="needs code of its own"):
        load_checkpoint(tmp_path / "m.pth", SHAPE)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_cut_and_missing_files_are_refused(tmp_path, tensors, name):
    with pytest.raises(UsageError, match="no checkpoint file"):
        load_checkpoint(tmp_path / name, SHAPE)
    path = write(tmp_path / name, tensors)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="is no whole"):
        load_checkpoint(path, SHAPE)


def test_model_from_arrays_checks_names(model, tensors):
    arrays = {name: value.numpy() for name, value in tensors.items()}
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(model_from_arrays(model.config, arrays)(images), model(images))
    del arrays["head.bias"]
    with pytest.raises(UsageError, match="head.bias"):
        model_from_arrays(model.config, arrays)


SMALL_SDT_V3 = {"img": 32, "num_heads": 2}


@pytest.fixture(scope="module")
def eight_levels() -> dict[str, torch.Tensor]:
    """A tiny SDT-V3 Model_Base; nothing in its tensors tells D."""
    row = families.FAMILIES["sdt_v3"].VARIANTS[0].config
    config = msgspec.structs.replace(row, embed_dims=(4, 4, 8, 8), heads=2, image_size=(32, 32))
    return {name: value.contiguous() for name, value in
            families.build(config).state_dict().items()}


@pytest.mark.parametrize("name", ["V3_19M_1x8.pth", "t1d8.pth", "m-D8.pth", "5.1M_T1D8_1x8.pth"])
def test_a_1x8_checkpoint_needs_its_d(tmp_path, eight_levels, name):
    path = write(tmp_path / name, {"model": eight_levels})
    with pytest.raises(UsageError, match="says 1x8, that is D = 8.*no D was given") as caught:
        load_checkpoint(path, SMALL_SDT_V3)
    assert "\n" not in caught.value.message
    for d in (4, 8):
        loaded = load_checkpoint(path, SMALL_SDT_V3 | {"D": d})
        assert loaded.model.config.levels == d and f"D={d}" in loaded.describe()


@pytest.mark.parametrize("name", ["V3_19M_1x4.pth", "11x8.pth", "1x80.pth", "d80.pth", "m.pth"])
def test_other_names_mean_the_published_d(tmp_path, eight_levels, name):
    loaded = load_checkpoint(write(tmp_path / name, eight_levels), SMALL_SDT_V3)
    assert loaded.family == "sdt_v3" and loaded.model.config.levels == 4


def test_metadata_that_says_8_levels_needs_a_d(tmp_path, eight_levels):
    stored = {"model": eight_levels, "args": argparse.Namespace(D=8)}
    save_file(eight_levels, tmp_path / "m.safetensors", {"config": json.dumps({"D": 8})})
    for path in (write(tmp_path / "m.pth", stored), tmp_path / "m.safetensors"):
        with pytest.raises(UsageError, match="its metadata says D = 8"):
            load_checkpoint(path, SMALL_SDT_V3)


def test_a_1x8_in_the_name_of_another_family_means_nothing(tmp_path, tensors):
    assert load_checkpoint(write(tmp_path / "1x8.pth", tensors), SHAPE).family == "spikformer"


def test_the_published_variant_is_named(tmp_path):
    config = qkformer((32, 32), 3, 10, dim=384, depth=4, heads=8, form="cifar",
                      proj_lif_axis="batch_time")
    loaded = load_checkpoint(write(tmp_path / "m.pth", families.build(config).state_dict()))
    assert loaded.model.config == config
    assert loaded.describe() == ("qkformer qkformer-4-384-cifar10: 6,706,234 parameters, T=4, "
                                 "images 32x32")


def test_no_two_shapes_of_a_family_have_the_same_number_of_parameters():
    """By which a checkpoint's variant is named."""
    for family in families.FAMILIES.values():
        shapes = {}
        for row in family.VARIANTS:
            free = {"image_size": (1, 1)} | ({"levels": 4} if hasattr(row.config, "levels") else {})
            shapes.setdefault(row.parameters, set()).add(
                msgspec.structs.replace(row.config, **free))
        assert {len(configs) for configs in shapes.values()} == {1}


def test_every_variant_is_of_its_own_family():
    for name, family in families.FAMILIES.items():
        assert {families.name_of(row.config) for row in family.VARIANTS} == {name}


def test_each_public_fixture_is_recognised_as_its_own_family(shared):
    for path in sorted((shared / "fixtures").glob("*/public/state_dict.safetensors")):
        name = path.parts[-3].removesuffix("_cifar")
        if name in families.FAMILIES:
            given = json.loads((path.parent / "meta.json").read_text())["config"]
            assert load_checkpoint(path, given).family == name


def test_tensors_of_no_family(tmp_path):
    write(tmp_path / "m.pth", {"blocks.0.norm1.weight": torch.ones(1)})
    with pytest.raises(UsageError, match="no known family.*first is blocks.0.norm1.weight"):
        load_checkpoint(tmp_path / "m.pth")


@pytest.mark.parametrize("wrong", [{"T": "four"}, {"img": [1]}, {"num_heads": "2"}])
def test_settings_of_the_wrong_kind_are_refused(tmp_path, tensors, wrong):
    with pytest.raises(UsageError, match="m.pth"):
        load_checkpoint(write(tmp_path / "m.pth", tensors), SHAPE | wrong)


def test_prefixes_of_wrappers_are_cut(tmp_path):
    write(tmp_path / "m.pth", {"module._orig_mod.module.a": torch.ones(1)})
    assert list(read_tensors(tmp_path / "m.pth")) == ["a"]
