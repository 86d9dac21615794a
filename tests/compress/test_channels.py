import numpy as np
import pytest
import torch

from edgesvit.compress.channels import (
    groups,
    importance,
    keep_strongest,
    kept_count,
    lane_step,
    owned_parameters,
    prune,
    select,
)
from edgesvit.errors import UsageError
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.models.config import spikformer
from tests.compress.models import CONFIGS, firing

CONFIG = CONFIGS["spikformer"]


def group(name, config=CONFIG):
    return next(g for g in groups(config) if g.name == name)


def test_pruning_is_physical():
    counts = {g.name: kept_count(g.size, 0.4, lane_step(g, 4)) for g in groups(CONFIG)
              if g.kind != "stream"}
    config, tensors = keep_strongest(CONFIG, firing("spikformer"), counts)
    assert config.stem == (4, 8, 8, 24)
    assert config.qk_dims == (4, 4) and config.hidden_dims == (56, 56)
    assert tensors["block.0.attn.q_linear.weight"].shape == (12, 24)
    assert tensors["block.1.mlp.fc2_linear.weight"].shape == (24, 56)
    assert tensors["patch_embed.proj_conv2.weight"].shape == (8, 8, 3, 3)
    assert tensors["block.0.attn.q_bn.running_var"].shape == (12,)


def test_the_original_is_untouched():
    weights = firing("spikformer")
    before = {name: value.copy() for name, value in weights.items()}
    _, tensors = prune(CONFIG, weights, {"hidden.0": range(5)})
    for name in tensors:
        if tensors[name].size < weights[name].size:
            tensors[name][...] = 0
    assert all(np.array_equal(weights[name], before[name]) for name in before)


def test_a_pruned_model_trains_on():
    config, tensors = prune(CONFIG, firing("spikformer"), {"qk.1": [0, 3], "stem.1": [1, 2, 3]})
    model = model_from_arrays(config, tensors).train()
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_importance_is_the_norm_of_the_filters_that_run():
    weights, expected, plain = firing("spikformer"), np.zeros(8), np.zeros(8)
    for letter in "qk":
        at = f"block.0.attn.{letter}"
        scale = weights[f"{at}_bn.weight"] / np.sqrt(weights[f"{at}_bn.running_var"] + 1e-5)
        for row in range(24):
            filters = weights[f"{at}_linear.weight"][row]
            expected[row % 8] += ((filters * scale[row]) ** 2).sum()
            plain[row % 8] += (filters ** 2).sum()
    np.testing.assert_allclose(importance(weights, group("qk.0")), np.sqrt(expected))
    np.testing.assert_allclose(importance(weights, group("qk.0"), fold_bn=False), np.sqrt(plain))


def test_the_raw_norm_can_choose_other_channels():
    weights = firing("spikformer")
    kept = [keep_strongest(CONFIG, weights, {"hidden.0": 48}, fold)[1] for fold in (True, False)]
    assert not np.array_equal(*(tensors["block.0.mlp.fc1_linear.weight"] for tensors in kept))


def test_owned_parameters_are_rows_columns_and_batch_norms():
    # fc1: 96 x 24 weights, 96 biases, 2 x 96 of the batch norm; fc2: 24 x 96 weights.
    assert owned_parameters(firing("spikformer"), group("hidden.1")) == 96 * (24 + 1 + 2 + 24)


@pytest.mark.parametrize(
    ("rate", "lanes", "kept"),
    [(0.0, 1, 10), (0.5, 1, 5), (0.5, 4, 4), (0.25, 4, 8), (0.99, 1, 1), (0.99, 4, 4),
     (0.0, 4, 10), (0.1, 16, 10), (0.29, 1, 8), (0.7, 1, 3)],
)
def test_select_keeps_the_strongest_in_whole_lanes(rate, lanes, kept):
    scores = np.array([3.0, 9, 1, 8, 2, 7, 4, 6, 5, 0])
    chosen = select(scores, rate, lanes)
    assert len(chosen) == kept == kept_count(10, rate, lanes)
    assert list(chosen) == sorted(chosen)
    weakest_kept = min(scores[list(chosen)])
    assert all(scores[i] < weakest_kept for i in range(10) if i not in chosen)


def test_equal_scores_keep_the_lower_index():
    assert select(np.ones(6), 0.5) == (0, 1, 2)


@pytest.mark.parametrize(
    ("keep", "words"),
    [({"stem.3": [0]}, "no channel group 'stem.3'"), ({"qk.0": []}, "asked to keep none"),
     ({"qk.0": [8]}, "indices 0..7"), ({"hidden.1": [-1]}, "indices 0..95")],
)
def test_impossible_requests_are_refused(keep, words):
    with pytest.raises(UsageError, match=words):
        prune(CONFIG, firing("spikformer"), keep)
    with pytest.raises(UsageError, match="rate 1.0"):
        select(np.ones(3), 1.0)
    with pytest.raises(UsageError, match="has 8 indices, asked to keep 9"):
        keep_strongest(CONFIG, firing("spikformer"), {"qk.0": 9})


def test_lane_step_counts_all_heads():
    assert lane_step(group("qk.0"), 8) == 8 and lane_step(group("hidden.0"), 8) == 8
    four = spikformer((8, 8), 3, 6, dim=24, depth=1, heads=4)
    assert lane_step(group("v.0", four), 8) == 2
