import copy

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgesvit.errors import UsageError
from edgesvit.models import sdt_v2 as family
from edgesvit.models.config import SdtV2Config, sdt_v2
from edgesvit.models.lif import Lif
from edgesvit.models.rep_conv import BnAndPad, RepConv, fold_rep_conv
from edgesvit.models.sdt_v2 import VARIANTS, attend, build, recognise
from tests.models import published
from tests.models.official import load, logit_errors, spikes_of

SMALL = SdtV2Config(image_size=(33, 40), in_channels=2, classes=5, time_steps=3,
                    embed_dims=(4, 6, 8, 12), heads=2, mlp_ratio=2)
OTHER = msgspec.structs.replace(SMALL, strides=(1, 2, 1, 2, 2), blocks=(1, 3))


@pytest.fixture(scope="module")
def official(shared):
    return load(shared / "fixtures" / "sdt_v2" / "public", family)


def test_logits_equal_the_official_code(official):
    assert max(logit_errors(official)) <= 1e-4


def test_every_spike_equals_the_official_code(official):
    _, seen = spikes_of(official.model, official.images)
    for name in official.spikes.files:
        assert np.array_equal(seen[name].numpy(), official.spikes[name]), name
    counts = {name: out.sum(tuple(range(1, out.ndim))).tolist() for name, out in seen.items()}
    assert counts == official.counts


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_published_parameter_counts(shared, variant):
    counts = {name.split(" ")[0]: count
              for name, count in published.parameter_counts(shared, "sdt_v2").items()}
    model = published.hollow(family, variant.config)
    assert published.parameters(model) == variant.parameters == counts[variant.name]


def test_published_keys_and_shapes(shared):
    expected = published.shapes_of(shared, "sdt_v2")
    (variant,) = (v for v in VARIANTS if v.name == "metaspikformer_8_512")
    assert recognise(expected, {}) == variant.config
    assert published.shapes(published.hollow(family, variant.config)) == expected


@pytest.mark.parametrize("config", [v.config for v in VARIANTS] + [SMALL, OTHER])
def test_a_configuration_comes_back_from_the_shapes(config):
    given = {"img": config.image_size, "T": config.time_steps, "num_heads": config.heads,
             "strides": list(config.strides)}
    assert recognise(published.shapes(published.hollow(family, config)), given) == config


def test_other_families_are_not_recognised():
    assert recognise({"patch_embed.proj_conv.weight": (4, 3, 3, 3)}, {}) is None


@pytest.mark.parametrize(
    ("change", "given", "words"),
    [
        (lambda s: s.pop("head.weight"), {}, "lacks the tensor head.weight"),
        (lambda s: s.pop("ConvBlock2_2.0.conv1.weight"), {}, "lacks the tensor ConvBlock2_2"),
        (lambda s: None, {"num_heads": 5}, "8 rows, which 5 heads cannot share"),
        (lambda s: None, {"T": 0}, "time_steps is 0"),
        (lambda s: None, {"strides": [2, 2]}, "not five of 1 or 2"),
    ],
)
def test_what_cannot_be_is_named(change, given, words):
    shapes = published.shapes(published.hollow(family, SMALL))
    change(shapes)
    with pytest.raises(UsageError, match=words):
        recognise(shapes, {"num_heads": 2} | given)


@pytest.mark.parametrize(
    "values",
    [{"time_steps": 9}, {"classes": 0}, {"image_size": (0, 8)}, {"embed_dims": (5, 6, 8, 12)},
     {"embed_dims": (4, 6, 9, 12)}, {"embed_dims": (4, 6, 8, 13)}, {"mlp_ratio": 0}, {"heads": 0},
     {"strides": (2, 2, 2, 2)}, {"strides": (2, 2, 2, 2, 3)}, {"strides": (0, 2, 2, 2, 1)},
     {"blocks": (0, 2)}, {"blocks": (6,)}],
)
def test_impossible_configurations_are_refused(values):
    with pytest.raises(UsageError) as caught:
        msgspec.structs.replace(SMALL, **values)
    assert caught.value.hint


def test_configuration_names_its_family_in_json():
    text = msgspec.json.encode(SMALL)
    assert b'"family":"sdt_v2"' in text
    assert msgspec.json.decode(text, type=SdtV2Config) == SMALL
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace(b'"kd"', b'"dk"'), type=SdtV2Config)


def test_any_image_size_gives_logits():
    torch.manual_seed(0)
    assert build(SMALL).eval()(torch.randn(3, 2, 33, 40)).shape == (3, 5)


@pytest.mark.parametrize("config", [SMALL, OTHER])
def test_strides_and_blocks_decide_sizes_and_depth(config):
    model, seen = build(config).eval(), []
    for name in ("1_1", "1_2", "2", "3", "4"):
        model.get_submodule(f"downsample{name}").register_forward_hook(
            lambda m, inputs, out: seen.append(tuple(out.shape[3:])))
    model(torch.randn(1, 2, 33, 40))
    assert tuple(seen) == config.stage_sizes
    assert config.tokens == seen[-1][0] * seen[-1][1]
    assert (len(model.block3), len(model.block4)) == config.blocks


def test_stage_sizes_round_up():
    assert SMALL.stage_sizes == ((17, 20), (9, 10), (5, 5), (3, 3), (3, 3))
    assert OTHER.stage_sizes == ((33, 40), (17, 20), (17, 20), (9, 10), (5, 5))


def test_what_is_not_said_is_as_published():
    assert (SMALL.strides, SMALL.blocks) == ((2, 2, 2, 2, 1), (6, 2))
    old = msgspec.json.encode(SMALL).replace(b'"strides":[2,2,2,2,1],"blocks":[6,2],', b"")
    assert b"blocks" not in old and msgspec.json.decode(old, type=SdtV2Config) == SMALL


@pytest.mark.parametrize(
    ("side", "grid"), [(8, 4), (12, 6), (28, 7), (32, 8), (64, 8), (96, 6), (224, 14)])
def test_a_new_model_has_a_token_grid_for_its_image(side, grid):
    config = sdt_v2((side, side), 3, 10, dim=32, depth=2, heads=2)
    assert config.stage_sizes[-1] == config.stage_sizes[-2] == (grid, grid)
    assert (config.strides == SMALL.strides) == (side >= 96)


@pytest.mark.parametrize(("depth", "blocks"), [(2, (1, 1)), (3, (2, 1)), (4, (3, 1)), (8, (6, 2))])
def test_depth_is_split_over_two_stages(depth, blocks):
    assert sdt_v2((32, 32), 3, 10, dim=48, depth=depth, heads=2).blocks == blocks


def test_widths_follow_from_the_last_stage():
    assert sdt_v2((32, 32), 3, 10, dim=128, depth=2).embed_dims == (24, 48, 96, 128)
    assert sdt_v2((32, 32), 3, 10, dim=16, depth=2, heads=4).embed_dims == (2, 6, 12, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"dim": 40}, "dim 40 gives no whole"), ({"dim": 0}, "dim 0 gives"), ({"heads": 3}, "3 heads"),
     ({"heads": 0}, "0 heads"), ({"depth": 1}, "depth 1 leaves a stage")])
def test_impossible_new_models_are_refused(changes, words):
    with pytest.raises(UsageError, match=words) as caught:
        sdt_v2((32, 32), 3, 10, **{"dim": 32, "depth": 2, "heads": 2} | changes)
    assert caught.value.hint


def test_first_convolution_runs_once_for_all_steps():
    model, seen = build(SMALL).eval(), []
    model.downsample1_1.encode_conv.register_forward_hook(
        lambda m, inputs, out: seen.append(tuple(inputs[0].shape)))
    model(torch.randn(2, 2, 33, 40))
    assert seen == [(2, 2, 33, 40)]


def test_two_heads_give_a_pair_in_training_and_their_mean_otherwise():
    torch.manual_seed(0)
    model = build(msgspec.structs.replace(SMALL, kd=True))
    nn.init.normal_(model.head.bias)
    nn.init.normal_(model.head_kd.bias)
    images = torch.randn(2, 2, 33, 40)
    logits, distilled = model.train()(images)
    assert logits.shape == distilled.shape == (2, 5)
    merged = model.eval()(images)
    model.config = msgspec.structs.replace(SMALL, kd=False)
    one = model(images)
    model.head = model.head_kd
    assert torch.allclose(merged, (one + model(images)) / 2)
    assert not torch.allclose(merged, one)


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = build(SMALL).train()
    logits = model(5 * torch.randn(4, 2, 33, 40))
    F.cross_entropy(logits, torch.arange(4)).backward()  # has a slope at logits of 0 too
    without = [name for name, p in model.named_parameters()
               if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert model.downsample1_1.encode_conv.weight.grad.abs().sum() > 0


def test_a_fresh_model_fires_everywhere_and_its_gradients_stay_moderate():
    """With every gain at 1 the attention is silent and the first layer's gradient 10,000."""
    torch.manual_seed(0)
    model = build(sdt_v2((16, 16), 1, 10, dim=64, depth=2, heads=4)).train()
    rates = {}
    for name, module in model.named_modules():
        if isinstance(module, Lif):
            module.register_forward_hook(
                lambda m, inputs, out, name=name: rates.__setitem__(name, out.mean().item()))
    logits = model(torch.randn(16, 1, 16, 16))
    F.cross_entropy(logits, torch.arange(16) % 10).backward()
    assert min(rates.values()) > 0
    assert max(p.grad.norm() for p in model.parameters()) < 10


def test_both_product_orders_of_attention_agree():
    q, k = torch.randint(0, 2, (2, 3, 2, 16, 20)).float()  # [T, B, h d, N], d = 8 < N = 20
    v = torch.randint(0, 2, (3, 2, 24, 20)).float()
    sums = attend(q, k, v, heads=2)
    q, k, v = (part.unflatten(2, (2, -1)).transpose(-2, -1) for part in (q, k, v))
    by_definition = ((q @ k.transpose(-2, -1)) @ v).transpose(-2, -1).flatten(2, 3)
    assert torch.equal(sums, by_definition)
    few = [part[..., :5, :].transpose(-2, -1).flatten(2, 3) for part in (q, k, v)]  # N = 5 < d
    q, k, v = (part[..., :5, :] for part in (q, k, v))
    by_definition = (q @ (k.transpose(-2, -1) @ v)).transpose(-2, -1).flatten(2, 3)
    assert torch.equal(attend(*few, heads=2), by_definition)


def random_bns(layer: nn.Module) -> nn.Module:
    """The layer in float64 and evaluation mode, its BNs far from the identity."""
    for module in layer.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.1, 2)
    return layer.double().eval()


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (2, 9)])
def test_rep_conv_folds_into_one_convolution_borders_included(size):
    torch.manual_seed(3)
    layer = random_bns(nn.Sequential(RepConv(6, 6, 6), nn.BatchNorm2d(6)))
    x = torch.randn(4, 6, *size, dtype=torch.float64)
    kernel, bias = fold_rep_conv(layer)
    assert kernel.shape == (6, 6, 3, 3) and not kernel.requires_grad
    with torch.no_grad():
        expected = layer(x)
    assert (F.conv2d(x, kernel, bias, padding=1) - expected).abs().max() <= 1e-12


def test_folded_official_layers_equal_the_official_ones(official):
    spikes = torch.from_numpy(official.spikes["block3.0.attn.head_lif"]).flatten(0, 1).double()
    attention = official.model.block3[0].attn
    for layer in (attention.q_conv, attention.k_conv, attention.v_conv, attention.proj_conv):
        exact = copy.deepcopy(layer).double()
        kernel, bias = fold_rep_conv(exact)
        with torch.no_grad():
            expected = exact(spikes)
        assert (F.conv2d(spikes, kernel, bias, padding=1) - expected).abs().max() <= 1e-12


def test_the_border_holds_the_running_statistics_also_in_training():
    torch.manual_seed(1)
    padding = random_bns(BnAndPad(3)).train()
    bn = padding.bn
    before = (bn.bias - bn.running_mean * bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
    bn.momentum = 0.0  # so that the batch leaves the running statistics alone
    out = padding(torch.randn(2, 3, 4, 4, dtype=torch.float64))
    border = torch.ones(6, 6, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert torch.allclose(out[:, :, border], before[None, :, None].expand(2, 3, 20))
    out[:, :, border].sum().backward()
    assert bn.bias.grad.abs().max() == 0
