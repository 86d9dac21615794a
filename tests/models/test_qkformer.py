import json

import msgspec
import numpy as np
import pytest
import torch

from edgesvit.errors import UsageError
from edgesvit.models import qkformer as family
from edgesvit.models.config import QKFormerConfig, qkformer
from edgesvit.models.qkformer import VARIANTS, build, recognise
from tests.models.official import load, logit_errors, spikes_of

KEYS = {"QKFormer_10_512": "qkformer/imagenet_keys.QKFormer_10_512.json",
        "qkformer-4-384-cifar10": "qkformer_cifar/imagenet_keys.qkformer-4-384-cifar10.json"}


@pytest.fixture(scope="module", params=["qkformer", "qkformer_cifar"])
def official(request, shared):
    """The ImageNet and the CIFAR form."""
    return load(shared / "fixtures" / request.param / "public", family)


def small(form: str = "imagenet", **changes) -> QKFormerConfig:
    plain = qkformer((20, 12), 2, 5, dim=32, depth=4, heads=2, form=form, time_steps=3)
    return msgspec.structs.replace(plain, **changes)


def lively(config: QKFormerConfig) -> torch.nn.Module:
    """A model in float64 whose neurons fire at moderate rates."""
    torch.manual_seed(0)
    model = build(config).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.weight.data.uniform_(1, 3)
            module.bias.data.uniform_(0, 1)
    return model


def test_logits_equal_the_official_code(official):
    assert official.model.config.proj_lif_axis == "batch_time"
    assert max(logit_errors(official)) <= 1e-4


def test_every_spike_equals_the_official_code(official):
    _, seen = spikes_of(official.model, official.images)
    for name in official.spikes.files:
        assert np.array_equal(seen[name].numpy(), official.spikes[name]), name
    counts = {name: out.sum(tuple(range(1, out.ndim))).tolist() for name, out in seen.items()}
    assert counts == official.counts


def test_without_the_leak_a_batch_gives_the_single_logits(official):
    """The intended neuron: the released single-image logits, not the released batch logits."""
    config = msgspec.structs.replace(official.model.config, proj_lif_axis="time")
    model = build(config).eval()
    model.load_state_dict(official.model.state_dict())
    with torch.no_grad():
        batch = model(official.images).numpy()
    assert np.abs(batch - official.io["logits_single"]).max() <= 1e-4
    assert np.abs(batch - official.io["logits"]).max() > 0.1


@pytest.mark.parametrize("form", ["imagenet", "cifar"])
def test_an_image_sees_its_batch_mates_only_through_the_leak(form):
    torch.manual_seed(1)
    images = 3 * torch.randn(4, 2, 20, 12, dtype=torch.float64)
    for axis, alone in (("time", True), ("batch_time", False)):
        model = lively(small(form, proj_lif_axis=axis))
        attention = model.stage3[-1].get_submodule(family.NAMES[form][0])
        attention.proj_bn.bias.data.fill_(1.2)  # alone silent at the first step, 0.6
        with torch.no_grad():
            batch, single = model(images), torch.cat([model(image[None]) for image in images])
        assert torch.allclose(batch, single) == alone


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_parameters_of_the_variants(variant):
    with torch.device("meta"):
        model = build(variant.config)
    assert sum(p.numel() for p in model.parameters()) == variant.parameters


def test_parameters_are_those_of_the_official_code(shared):
    listed = json.loads((shared / "fixtures" / "param_counts.json").read_text())
    counted = {row["variant"]: row["params"] for row in listed
               if row["arch"] in ("qkformer", "qkformer_cifar")}
    assert counted.items() <= {v.name: v.parameters for v in VARIANTS}.items()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.name in KEYS], ids=lambda v: v.name)
def test_names_and_shapes_of_the_variants(shared, variant):
    listed = json.loads((shared / "fixtures" / KEYS[variant.name]).read_text())["keys"]
    shapes = {name: tuple(row["shape"]) for name, row in listed.items()}
    with torch.device("meta"):
        model = build(variant.config)
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == shapes
    assert recognise(shapes, {}) == variant.config


@pytest.mark.parametrize("form", ["imagenet", "cifar"])
def test_pruned_models_are_recognised(form):
    heads = 2 if form == "imagenet" else 8
    config = qkformer((16, 16), 1, 4, dim=64, depth=4, heads=heads, form=form, time_steps=2)
    config = msgspec.structs.replace(config, qk_dims=(1, 3, 2, 5)[:len(config.qk_dims)],
                                     hidden_dims=(5, 6, 7, 8), widths=(3, 16, 32, 64))
    model = build(config).eval()
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 4)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    given = {"num_heads": heads, "img": 16, "T": 2, "proj_lif_axis": "time"}
    assert recognise(shapes, given) == config


def test_other_families_and_unknown_heads():
    assert recognise({"block.0.attn.q_conv.weight": (8, 8, 1), "head.weight": (2, 8)}, {}) is None
    shapes = {name: tuple(t.shape) for name, t in build(small()).state_dict().items()}
    with pytest.raises(UsageError, match="width 32 does not tell its number of heads"):
        recognise(shapes, {})
    with pytest.raises(UsageError, match="stage1.0.tssa.q_conv.weight has 8 rows.*3 heads"):
        recognise(shapes, {"num_heads": 3})
    del shapes["patch_embed3.proj4_conv.weight"]
    with pytest.raises(UsageError, match="lacks the tensor patch_embed3.proj4_conv.weight"):
        recognise(shapes, {"num_heads": 2})


@pytest.mark.parametrize("form", ["imagenet", "cifar"])
def test_sizes_follow_the_pools(form):
    model = lively(small(form))
    seen = []
    for stage in (model.stage1, model.stage2, model.stage3):
        stage[0].register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[3:])))
    assert model(torch.randn(1, 2, 20, 12, dtype=torch.float64)).shape == (1, 5)
    assert tuple(seen) == model.config.stage_sizes
    assert model.config.tokens == {"imagenet": 2 * 1, "cifar": 5 * 3}[form]


def test_both_product_orders_of_attention_agree():
    model = lively(small("cifar"))
    attention, wide = model.stage3[0].ssa, 2 * torch.rand(3, 2, 32, 5, 8, dtype=torch.float64)
    seen = []
    attention.attn_lif.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    spikes = {}
    for name in "qkv":
        getattr(attention, f"{name}_lif").register_forward_hook(
            lambda m, i, out, name=name: spikes.__setitem__(name, attention._split(out)))
    attention(wide)
    q, k, v = (spikes[name] for name in "qkv")
    assert q.mean() > 0.01 and v.mean() > 0.01
    both = [(v @ (k.transpose(-2, -1) @ q)), ((v @ k.transpose(-2, -1)) @ q)]
    assert all(torch.equal(out.flatten(2, 3) * 0.125, seen[0]) for out in both)


@pytest.mark.parametrize("form", ["imagenet", "cifar"])
def test_every_parameter_learns(form):
    model = lively(small(form)).train()
    model(5 * torch.randn(4, 2, 20, 12, dtype=torch.float64)).square().sum().backward()
    assert [name for name, p in model.named_parameters()
            if p.grad is None or not p.grad.isfinite().all()] == []
    assert model.patch_embed1.proj_conv.weight.grad.abs().sum() > 0


def test_json_round_trip():
    content = msgspec.json.encode(small("cifar"))
    assert b'"family":"qkformer"' in content
    assert msgspec.json.decode(content, type=QKFormerConfig) == small("cifar")


@pytest.mark.parametrize(("changes", "words"), [
    ({"depth": 3}, "depth 3 leaves no self-attention"),
    ({"dim": 20}, "dim 20 gives no widths"),
    ({"heads": 3}, "3 heads can share"),
    ({"heads": 0}, "0 heads can share"),
    ({"time_steps": 9}, "time_steps is 9"),
    ({"form": "big"}, "form is 'big'"),
    ({"proj_lif_axis": "batch"}, "proj_lif_axis is 'batch'"),
    ({"mlp_ratio": 0}, "hidden_dims has the value 0"),
])
def test_bad_shapes_are_refused_in_one_line(changes, words):
    with pytest.raises(UsageError, match=words) as caught:
        qkformer((32, 32), 3, 10, **{"dim": 32, "depth": 4, "heads": 2, "form": "imagenet",
                                     **changes})
    assert "\n" not in caught.value.message and caught.value.hint


def test_pruned_shapes_are_checked():
    with pytest.raises(UsageError, match="v_dims has 2 entries for 1 blocks"):
        small(v_dims=(4, 4))
    with pytest.raises(UsageError, match="widths has the value 0"):
        small(widths=(0, 8, 16, 32))
