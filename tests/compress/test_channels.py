import msgspec
import pytest
import torch

from edgesvit.compress.channels import groups, importance, lane_step, prune, select
from edgesvit.errors import UsageError
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.models.config import spikformer
from edgesvit.models.lif import Lif
from edgesvit.models.spikformer import build

# The neurons whose output a group's channels are, by group kind.
NEURONS = {
    "stem.0": ["patch_embed.proj_lif"], "stem.1": ["patch_embed.proj_lif1"],
    "stem.2": ["patch_embed.proj_lif2"],
    "qk": ["attn.q_lif", "attn.k_lif"], "v": ["attn.v_lif"], "hidden": ["mlp.fc1_lif"],
}


def neurons(group: str) -> list[str]:
    kind, index = group.split(".")
    return NEURONS.get(group) or [f"block.{index}.{name}" for name in NEURONS[kind]]


@pytest.fixture
def model():
    return firing_model("linear")


def firing_model(form):
    """A model whose neurons fire: random weights, batch norm statistics as after training."""
    torch.manual_seed(3)
    config = spikformer((8, 8), 3, 6, dim=24, depth=2, heads=3, time_steps=3, pool="0001",
                        stem=(8, 12, 16, 24), attention_scale=0.5, form=form)
    model = build(config).double()
    torch.nn.init.normal_(model.head.weight)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 1.0, 3.0)
            torch.nn.init.uniform_(module.bias, -0.5, 1.5)
            module.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(16, 3, 8, 8, dtype=torch.float64))
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(7, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def masked(model, keep, images):
    """Logits of the whole model with the spikes of all removed channels forced to 0."""
    by_name, hooks = {g.name: g for g in groups(model.config)}, []
    for name, kept in keep.items():
        group = by_name[name]
        mask = torch.zeros(group.copies, group.size, dtype=torch.float64)
        mask[:, list(kept)] = 1
        mask = mask.view((1, -1, 1, 1) if name.startswith("stem") else (-1,))
        for neuron in neurons(name):
            assert isinstance(model.get_submodule(neuron), Lif)
            hooks.append(model.get_submodule(neuron).register_forward_hook(
                lambda m, i, out, mask=mask: out * mask))
    with torch.no_grad():
        logits = model(images)
    for hook in hooks:
        hook.remove()
    return logits


GROUPS = [g.name for g in groups(spikformer((8, 8), 3, 6, dim=24, depth=2, heads=3))]


@pytest.mark.parametrize("name", GROUPS)
def test_pruning_one_group_equals_masking_it(model, images, name):
    group = next(g for g in groups(model.config) if g.name == name)
    keep = {name: select(importance(model, group), 0.5)}
    smaller = prune(model, keep)
    with torch.no_grad():
        pruned = smaller(images)
        assert not torch.allclose(pruned, model(images), atol=1e-3), "the channels do nothing"
    torch.testing.assert_close(pruned, masked(model, keep, images), rtol=0, atol=1e-6)


def test_pruning_all_groups_is_physical_and_survives_a_file(model, images, tmp_path):
    from edgesvit.run_folder import ModelCard, RunFolder

    keep = {g.name: select(importance(model, g), 0.4, lane_step(g, 4))
            for g in groups(model.config)}
    smaller = prune(model, keep)
    torch.testing.assert_close(
        smaller(images), masked(model, keep, images), rtol=0, atol=1e-6)
    assert smaller.config.stem == (4, 8, 8, 24)
    assert smaller.config.qk_dims == (4, 4) and smaller.config.hidden_dims == (56, 56)
    assert smaller.block[0].attn.q_linear.weight.shape == (12, 24)
    assert smaller.block[1].mlp.fc2_linear.weight.shape == (24, 56)
    assert smaller.patch_embed.proj_conv2.weight.shape == (8, 8, 3, 3)
    folder = RunFolder(tmp_path)
    folder.write_model(ModelCard(config=smaller.config, mean=(0.5,) * 3, std=(1.0,) * 3,
                                 labels=("a",) * 6, data="x"), smaller.float().state_dict())
    again = model_from_arrays(folder.card().config, folder.weights())
    assert torch.equal(again(images.float()), smaller(images.float()))


@pytest.mark.parametrize("form", ["conv", "dvs"])
def test_the_forms_of_convolutions_are_pruned_alike(images, form):
    model = firing_model(form)
    keep = {g.name: select(importance(model, g), 0.4, lane_step(g, 4))
            for g in groups(model.config)}
    smaller = prune(model, keep)
    torch.testing.assert_close(smaller(images), masked(model, keep, images), rtol=0, atol=1e-6)
    assert smaller.block[0].attn.q_conv.weight.shape == (12, 24, 1)


def test_the_original_is_untouched_and_modes_are_kept(model, images):
    before = model(images)
    smaller = prune(model, {"hidden.0": range(5)})
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.zero_()
    assert torch.equal(model(images), before)
    assert not smaller.training and prune(model.train(), {}).training


def test_a_pruned_model_trains_on(model, images):
    smaller = prune(model, {"qk.1": [0, 3], "stem.1": [1, 2, 3]}).train()
    smaller(images).sum().backward()
    assert all(p.grad is not None for p in smaller.parameters())


def test_importance_is_the_norm_of_the_folded_filters(model):
    group = next(g for g in groups(model.config) if g.name == "qk.0")
    expected = torch.zeros(8, dtype=torch.float64)
    for letter in "qk":
        linear = model.get_submodule(f"block.0.attn.{letter}_linear")
        bn = model.get_submodule(f"block.0.attn.{letter}_bn")
        for row in range(24):
            scale = bn.weight[row] / (bn.running_var[row] + bn.eps).sqrt()
            expected[row % 8] += (linear.weight[row] * scale).norm().detach()
    torch.testing.assert_close(importance(model, group), expected)
    raw = importance(model, group, fold_bn=False)
    assert not torch.allclose(raw, expected)


@pytest.mark.parametrize(
    ("rate", "lanes", "kept"),
    [(0.0, 1, 10), (0.5, 1, 5), (0.5, 4, 4), (0.25, 4, 8), (0.99, 1, 1), (0.99, 4, 4),
     (0.0, 4, 10), (0.1, 16, 10)],
)
def test_select_keeps_the_strongest_in_whole_lanes(rate, lanes, kept):
    scores = torch.tensor([3.0, 9, 1, 8, 2, 7, 4, 6, 5, 0])
    chosen = select(scores, rate, lanes)
    assert len(chosen) == kept and list(chosen) == sorted(chosen)
    weakest_kept = min(scores[list(chosen)])
    assert all(scores[i] < weakest_kept for i in range(10) if i not in chosen)


def test_equal_scores_keep_the_lower_index():
    assert select(torch.ones(6), 0.5) == (0, 1, 2)


@pytest.mark.parametrize(
    ("keep", "words"),
    [({"stem.3": [0]}, "no channel group 'stem.3'"), ({"qk.0": []}, "asked to keep none"),
     ({"qk.0": [8]}, "indices 0..7"), ({"hidden.1": [-1]}, "indices 0..95")],
)
def test_impossible_requests_are_refused(model, keep, words):
    with pytest.raises(UsageError, match=words):
        prune(model, keep)
    with pytest.raises(UsageError, match="rate 1.0"):
        select(torch.ones(3), 1.0)


def test_lane_step_counts_all_heads():
    config = spikformer((8, 8), 3, 6, dim=24, depth=1, heads=3)
    by_name = {g.name: g for g in groups(config)}
    assert lane_step(by_name["qk.0"], 8) == 8 and lane_step(by_name["hidden.0"], 8) == 8
    four = groups(msgspec.structs.replace(config, heads=4, qk_dims=(6,), v_dims=(6,)))
    assert lane_step(next(g for g in four if g.name == "v.0"), 8) == 2
