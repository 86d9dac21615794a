import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgesvit.errors import UsageError
from edgesvit.models import sdt_v3, sdt_v3_large
from edgesvit.models.config import SdtV3Config, SdtV3LargeConfig
from edgesvit.models.config import sdt_v3 as new_model
from edgesvit.models.integer_lif import IntegerLif
from edgesvit.models.rep_conv import RepConv1d, fold_rep_conv1d
from tests.models import published
from tests.models.official import load, logit_errors

SMALL = SdtV3Config(image_size=(33, 40), in_channels=2, classes=5, embed_dims=(4, 6, 8, 12),
                    heads=2, mlp_ratio=2)
OTHER = msgspec.structs.replace(SMALL, strides=(1, 2, 1, 2, 2), blocks=(1, 3))
LARGE = SdtV3LargeConfig(image_size=(33, 40), in_channels=2, classes=5, embed_dims=(4, 6, 8),
                         depth=2, heads=2, mlp_ratio=2)
FIXTURES = {
    "sdt_v3/public": sdt_v3,
    "sdt_v3_large/public": sdt_v3_large,
    "sdt_v3_large/base_injected": sdt_v3_large,
}
VARIANTS = [(family, variant) for family in (sdt_v3, sdt_v3_large)
            for variant in family.VARIANTS]
# The official table names the classifiers of the large models, our rows have shorter names.
OFFICIAL_NAMES = {
    "spikformer12_512": "spikformer12_512 (kd=True)",
    "spikformer12_512_nokd": "spikformer12_512 (kd=False)",
    "spikformer12_768": "spikformer12_768 (kd=True)",
    "spikformer12_768_384": "spikformer12_768 (kd=True)",
    "spikformer12_768_nokd": "spikformer12_768 (kd=False)",
}


@pytest.fixture(scope="module", params=FIXTURES)
def official(shared, request):
    return load(shared / "fixtures" / request.param, FIXTURES[request.param])


def levels_of(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The level 0..D of every neuron by module name."""
    seen = {}
    hooks = [m.register_forward_hook(
                 lambda m, i, out, name=n: seen.__setitem__(name, out * m.divisor))
             for n, m in model.named_modules() if isinstance(m, IntegerLif)]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return seen


def test_logits_equal_the_official_code(official):
    assert max(logit_errors(official)) <= 1e-4


def test_every_level_equals_the_official_code(official):
    seen = levels_of(official.model, official.images)
    for name in official.spikes.files:
        assert np.array_equal(seen[name].numpy(), official.spikes[name]), name
    counts = {name: out.sum(tuple(range(1, out.ndim))).tolist() for name, out in seen.items()}
    assert counts == official.counts


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=lambda x: getattr(x, "name", ""))
def test_published_parameter_counts(shared, family, variant):
    counts = published.parameter_counts(shared, family.__name__.split(".")[-1])
    model = published.hollow(family, variant.config)
    assert published.parameters(model) == variant.parameters
    assert variant.parameters == counts[OFFICIAL_NAMES.get(variant.name, variant.name)]


@pytest.mark.parametrize(
    ("family", "name"),
    [(sdt_v3, "Efficient_Spiking_Transformer_s"), (sdt_v3_large, "spikformer12_512")],
)
def test_published_keys_and_shapes(shared, family, name):
    expected = published.shapes_of(shared, family.__name__.split(".")[-1])
    (variant,) = (v for v in family.VARIANTS if v.name == name)
    assert family.recognise(expected, {"D": variant.config.levels}) == variant.config
    assert published.shapes(published.hollow(family, variant.config)) == expected


@pytest.mark.parametrize(
    ("family", "config"),
    [
        (sdt_v3, SMALL),
        (sdt_v3, OTHER),
        *((sdt_v3_large, msgspec.structs.replace(LARGE, choice=choice, kd=kd, sr_ratio=sr))
          for choice in ("base", "large") for kd in (True, False) for sr in (1, 3)),
    ],
)
def test_a_configuration_comes_back_from_the_shapes(family, config):
    config = msgspec.structs.replace(config, levels=8)
    shapes = published.shapes(published.hollow(family, config))
    given = {"img": config.image_size, "num_heads": config.heads, "D": 8,
             "strides": list(getattr(config, "strides", ()))}
    assert family.recognise(shapes, given) == config
    assert family.recognise(shapes, given | {"D": None}).levels == 4
    others = {sdt_v3, sdt_v3_large} - {family}
    assert [other.recognise(shapes, given) for other in others] == [None]
    with pytest.raises(UsageError, match="T is 4, but SDT-V3 has no time steps"):
        family.recognise(shapes, given | {"T": 4})


@pytest.mark.parametrize("levels", [1, 4, 8])
@pytest.mark.parametrize("family", [sdt_v3, sdt_v3_large])
def test_d_is_the_highest_level_of_every_neuron(family, levels):
    torch.manual_seed(0)
    config = msgspec.structs.replace(SMALL if family is sdt_v3 else LARGE, levels=levels)
    model = family.build(config).train()  # batch statistics keep every layer lively
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 10.0)
    seen = levels_of(model, torch.randn(4, 2, 33, 40))
    every = torch.cat([out.flatten() for out in seen.values()])
    assert every.min() == 0 and every.max() == levels
    assert torch.equal(every, every.round())


@pytest.mark.parametrize("config", [SMALL, OTHER])
def test_strides_and_blocks_decide_sizes_and_depth(config):
    model, seen = sdt_v3.build(config).eval(), []
    for name in ("1_1", "1_2", "2", "3", "4"):
        model.get_submodule(f"downsample{name}").register_forward_hook(
            lambda m, inputs, out: seen.append(tuple(out.shape[2:])))
    model(torch.randn(1, 2, 33, 40))
    assert tuple(seen) == config.stage_sizes
    assert config.tokens == seen[-1][0] * seen[-1][1]
    assert (len(model.block3), len(model.block4)) == config.blocks


def test_a_new_model_has_the_levels_and_a_token_grid_for_its_image():
    config = new_model((28, 28), 1, 10, dim=64, depth=4, heads=4, levels=8)
    assert (config.levels, config.blocks, config.embed_dims) == (8, (3, 1), (12, 24, 48, 64))
    assert config.tokens == 49
    official = new_model((224, 224), 3, 1000, dim=128, depth=8)
    assert official == sdt_v3.VARIANTS[0].config


@pytest.mark.parametrize("choice", ["base", "large"])
def test_two_heads_give_a_pair_in_training_and_their_mean_otherwise(choice):
    torch.manual_seed(0)
    model = sdt_v3_large.build(msgspec.structs.replace(LARGE, choice=choice, sr_ratio=2))
    nn.init.normal_(model.head_kd.bias)
    images = torch.randn(2, 2, 33, 40)
    logits, distilled = model.train()(images)
    assert logits.shape == distilled.shape == (2, 5)
    merged = model.eval()(images)
    model.config = msgspec.structs.replace(model.config, kd=False)
    with torch.no_grad():
        membrane = []
        model.lif.register_forward_hook(lambda m, inputs, out: membrane.append((*inputs, out)))
        one = model(images)
        raw, levels = membrane[0]
        assert torch.allclose(one, model.head(raw[0]))  # the first classifier skips the neuron
        assert torch.allclose(merged, (one + model.head_kd(levels[0])) / 2)


def test_layer_scale_starts_small_and_scales_the_branches():
    model = sdt_v3_large.build(msgspec.structs.replace(LARGE, layer_scale=0.25))
    assert torch.equal(model.block3[1].layer_scale2, torch.full((8,), 0.25))
    block, x = model.block3[0].eval(), torch.randn(1, 2, 8, 6)
    for scale in (block.layer_scale1, block.layer_scale2):
        nn.init.zeros_(scale)
    branch = block.rep_conv(block.lif(x)[0])
    assert torch.equal(block(x), x + branch)


def test_sr_ratio_widens_v_and_the_projection():
    """Hidden layers are one and a half times their input, as in the authors' code."""
    attention = sdt_v3_large.build(msgspec.structs.replace(LARGE, sr_ratio=3)).block3[0].attn
    widths = {name: [tuple(rep.conv1[0].weight.shape[:2]), tuple(rep.conv2[0].weight.shape[:2])]
              for name, rep in (("q", attention.q_conv[0]), ("v", attention.v_conv[0]),
                                ("proj", attention.proj_conv[0]))}
    assert widths == {"q": [(12, 8), (8, 12)], "v": [(12, 8), (24, 12)],
                      "proj": [(36, 24), (8, 36)]}


@pytest.mark.parametrize("family", [sdt_v3, sdt_v3_large])
def test_every_parameter_learns(family):
    torch.manual_seed(0)
    model = family.build(SMALL if family is sdt_v3 else
                         msgspec.structs.replace(LARGE, layer_scale=0.5)).train()
    out = model(5 * torch.randn(4, 2, 33, 40))
    sum(part.square().sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    without = [name for name, p in model.named_parameters()
               if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert model.downsample1_1.encode_conv.weight.grad.abs().sum() > 0


def test_the_classifier_of_a_fresh_model_tells_channels_apart():
    """Around 0 its neurons would all be silent, around 1 all at the same level."""
    torch.manual_seed(0)
    model, seen = sdt_v3.build(new_model((28, 28), 1, 10, dim=64, depth=2, heads=4)).train(), []
    model.spike.register_forward_hook(lambda m, inputs, out: seen.append(out))
    model(torch.randn(8, 1, 28, 28))
    assert 0.2 < (seen[0] > 0).float().mean() < 0.8


@pytest.mark.parametrize("outer", [None, nn.BatchNorm1d(5)])
def test_point_wise_rep_conv_folds_into_one_layer(outer):
    torch.manual_seed(3)
    layer = nn.Sequential(RepConv1d(6, 9, 5), *([outer] if outer else []))
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.1, 2)
    x = torch.randn(4, 6, 11, dtype=torch.float64)
    layer = layer.double().eval()
    weight, bias = fold_rep_conv1d(layer[0], outer)
    with torch.no_grad():
        expected = layer(x)
    assert (F.conv1d(x, weight[:, :, None], bias) - expected).abs().max() <= 1e-12


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (SMALL, {"levels": 0}), (SMALL, {"levels": 256}), (SMALL, {"embed_dims": (4, 6, 9, 12)}),
        (SMALL, {"embed_dims": (3, 6, 8, 12)}), (SMALL, {"blocks": (1, 0)}),
        (SMALL, {"strides": (2, 2, 2, 2, 3)}), (LARGE, {"levels": 0}), (LARGE, {"depth": 0}),
        (LARGE, {"sr_ratio": 0}), (LARGE, {"embed_dims": (4, 6, 9)}), (LARGE, {"choice": "huge"}),
    ],
)
def test_impossible_configurations_are_refused(config, values):
    with pytest.raises(UsageError) as caught:
        msgspec.structs.replace(config, **values)
    assert caught.value.hint


@pytest.mark.parametrize("config", [SMALL, LARGE])
def test_configurations_name_their_family_in_json(config):
    text = msgspec.json.encode(config)
    both = SdtV3Config | SdtV3LargeConfig
    assert msgspec.json.decode(text, type=both) == config
