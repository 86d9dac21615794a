"""Every group of every family: removing its channels is silencing them."""

import msgspec
import numpy as np
import pytest

from edgesvit.compress.channels import (
    groups,
    importance,
    keep_strongest,
    owned_parameters,
    prune,
    select,
)
from edgesvit.errors import UsageError
from edgesvit.evaluate import unchecked_program
from edgesvit.models import families
from edgesvit.models.config import SdtV3LargeConfig, sdt_v1
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run
from edgesvit.run_folder import ModelCard, RunFolder
from tests.compress.models import CONFIGS, firing, logits

CASES = [(name, group.name) for name, config in CONFIGS.items() for group in groups(config)]


def card_of(config):
    return ModelCard(config=config, mean=(0.5,) * 3, std=(0.25,) * 3, labels=tuple("abcdef"),
                     data="x")


def silenced(weights, group, kept, readers=False):
    """The whole model's weights with the filters and batch norms of removed channels at 0.

    With `readers` also the columns that read them, which then cannot set a quantiser's scale.
    """
    gone = np.ones((group.copies, group.size), bool)
    gone[:, list(kept)] = False
    gone, masked = gone.ravel(), dict(weights)
    for part in (*group.producers, *group.through):
        for name in (part.layer, *part.bns):
            for tensor in (f"{name}.weight", f"{name}.bias"):
                if tensor in masked:
                    masked[tensor] = masked[tensor].copy()
                    masked[tensor][gone] = 0
    for layer in group.consumers if readers else ():
        masked[f"{layer}.weight"] = masked[f"{layer}.weight"].copy()
        masked[f"{layer}.weight"][:, gone] = 0
    return masked


def halved(config, weights):
    """Indices to keep: about half of every group, another share in each."""
    return {group.name: select(importance(weights, group), 0.3 + 0.05 * (i % 6))
            for i, group in enumerate(groups(config))}


@pytest.mark.parametrize(("model", "name"), CASES)
def test_pruning_a_group_is_silencing_it(model, name):
    config, weights = CONFIGS[model], firing(model)
    group = next(g for g in groups(config) if g.name == name)
    kept = select(importance(weights, group), 0.5)
    smaller, tensors = prune(config, weights, {name: kept})
    pruned = logits(smaller, tensors)
    assert not np.allclose(pruned, logits(config, weights), atol=1e-3), "the channels do nothing"
    np.testing.assert_allclose(pruned, logits(config, silenced(weights, group, kept)), atol=1e-6)
    left = sum(t.size for t in tensors.values())
    assert left < sum(t.size for t in weights.values())
    assert owned_parameters(tensors, next(g for g in groups(smaller) if g.name == name)) < (
        owned_parameters(weights, group))


@pytest.mark.parametrize("model", CONFIGS)
def test_all_groups_at_once_in_integers(model):
    """Pruned == silenced, exactly, and the saved model is the one in memory, to the byte."""
    config, masked = CONFIGS[model], firing(model)
    keep = halved(config, masked)
    smaller, tensors = prune(config, firing(model), keep)
    for group in groups(config):
        masked = silenced(masked, group, keep[group.name], readers=True)
    whole = unchecked_program(card_of(config), masked)
    small = unchecked_program(card_of(smaller), tensors)
    assert len(to_bytes(small)) < 0.75 * len(to_bytes(whole))
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
    results = [run(small, image) for image in images]
    assert any(np.ptp(result) for result in results)
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, run(whole, image))


@pytest.mark.parametrize("model", CONFIGS)
def test_a_saved_pruned_model_is_the_one_in_memory(model, tmp_path):
    config, tensors = prune(CONFIGS[model], firing(model), halved(CONFIGS[model], firing(model)))
    folder = RunFolder(tmp_path)
    folder.write_model(card_of(config), tensors)
    assert folder.card().config == config
    again = folder.weights()
    assert again.keys() == tensors.keys()
    assert all(np.array_equal(again[name], tensors[name]) for name in tensors)
    assert to_bytes(unchecked_program(folder.card(), again)) == to_bytes(
        unchecked_program(card_of(config), tensors))


@pytest.mark.parametrize("model", CONFIGS)
def test_keeping_everything_changes_nothing(model):
    config, weights = CONFIGS[model], firing(model)
    same, tensors = keep_strongest(config, weights, {g.name: g.size for g in groups(config)})
    assert same == config
    assert all(np.array_equal(tensors[name], weights[name]) for name in weights)
    assert prune(config, weights, {})[0] is config


@pytest.mark.parametrize("model", CONFIGS)
def test_pruned_tensors_tell_their_shape(model):
    config, tensors = prune(CONFIGS[model], firing(model), halved(CONFIGS[model], firing(model)))
    given = {"img": (8, 8), "num_heads": config.heads, "T": getattr(config, "time_steps", None),
             "strides": getattr(config, "strides", None)}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    found = families.recognise(shapes, given)
    for field in ("dims", "stem", "qk_dims", "v_dims", "hidden_dims", "attention_dims", "widths",
                  "embed_dims"):
        if field != "embed_dims" or "qkformer" in model:  # of SDT-V2 and V3: what it was before
            assert getattr(found, field, None) == getattr(config, field, None), field


def test_pruning_twice_is_pruning_once():
    config, weights = CONFIGS["sdt_v2"], firing("sdt_v2")
    once = prune(config, weights, {"conv.1": range(5), "stream.3": range(7), "qk.0": [1, 3]})
    twice = prune(config, weights, {"conv.1": range(9)})
    twice = prune(*twice, {"conv.1": range(5), "stream.3": range(7)})
    twice = prune(*twice, {"qk.0": [1, 3]})
    assert twice[0] == once[0] and twice[0].embed_dims == config.embed_dims
    assert all(np.array_equal(twice[1][name], once[1][name]) for name in once[1])


def test_what_is_no_group():
    """Event attention pools over channels; at MLP ratio 1 the stream passes the hidden layer."""
    events = sdt_v1((16, 16), 2, 5, dim=16, depth=1, heads=2, events=True)
    assert {g.kind for g in groups(events)} == {"stem", "hidden", "stream"}
    narrow = sdt_v1((8, 8), 3, 5, dim=16, depth=1, heads=2, mlp_ratio=1, pool="0001")
    assert {g.kind for g in groups(narrow)} == {"stem", "attention"}
    with pytest.raises(UsageError, match="Model_Large has no channel groups"):
        groups(SdtV3LargeConfig(image_size=(32, 32), classes=5, embed_dims=(8, 8, 8)))


@pytest.mark.parametrize(("change", "words"), [
    ({"sep": (1, 2)}, "sep has 2 entries, not 4"), ({"v": (0, 3)}, "v has the value 0"),
    ({"mix": (4, 4)}, "mix has 2 entries, not 0"),
])
def test_impossible_widths_are_refused(change, words):
    config = CONFIGS["sdt_v2"]
    with pytest.raises(UsageError, match=words):
        msgspec.structs.replace(config, pruned=msgspec.structs.replace(config.dims, **change))
