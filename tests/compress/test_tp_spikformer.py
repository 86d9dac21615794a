"""TP-Spikformer: the authors' presets, and the search that replaces setting shares by hand."""

import pytest

from edgesvit.compress import tp_spikformer
from edgesvit.compress.judge import Judge, search_images
from edgesvit.compress.setting import Setting, apply
from edgesvit.compress.tokens import average_kept, shares_of
from edgesvit.compress.tp_spikformer import preset, presets, search, uniform
from edgesvit.cost.operations import work
from edgesvit.errors import UsageError
from edgesvit.models.config import qkformer
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder


@pytest.fixture
def judge(tmp_path):
    source = RunFolder(shipped_model("spikformer-digits"))
    return Judge(source, "digits", tmp_path / "answers.jsonl", images=150, jobs=1)


@pytest.mark.parametrize("family", ["sdt_v1", "qkformer", "sdt_v3"])
def test_presets_keep_what_they_say(family):
    for name, shares in presets(family).items():
        assert sum(shares) / len(shares) == pytest.approx(float(name), abs=0.006)
        assert list(shares) == sorted(shares, reverse=True)


def test_a_preset_for_a_model_of_another_depth():
    config = qkformer((32, 32), 3, 10, dim=64, depth=3, heads=4, form="cifar")
    shares = presets("qkformer")["0.62"]
    assert preset(config, "0.62").tokens == {
        "stage1.0": shares[0], "stage2.0": shares[3], "stage3.0": shares[6]}
    with pytest.raises(UsageError, match="the presets are|no preset '0.5'"):
        preset(config, "0.5")
    with pytest.raises(UsageError, match="no preset for sdt_v2"):
        presets("sdt_v2")


def test_the_search_reaches_its_goal_in_monotone_steps(judge):
    found = search(judge, 0.6, step=0.25)
    assert found.average_kept <= 0.6 < found.steps[-2].average_kept
    shares = {"block.0": 1.0, "block.1": 1.0}
    sops = found.sops
    for step in found.steps:
        shares[step.block] = step.share
        assert shares["block.0"] >= shares["block.1"] > 0
        assert step.sops < sops
        sops = step.sops
    assert found.setting.tokens == {k: v for k, v in shares.items() if v < 1}
    assert found.verdict == judge(found.setting) and found.whole == judge.whole


def test_between_stages_the_early_blocks_may_keep_less(tmp_path):
    """A block of a QKFormer is alone in its stage: nothing binds it to the next one."""
    source = RunFolder(shipped_model("qkformer-digits"))
    judge = Judge(source, "digits", tmp_path / "answers.jsonl", images=150, jobs=1)
    found = search(judge, 0.8, step=0.3)
    blocks = list(shares_of(judge.card.config))
    shares = dict.fromkeys(blocks, 1.0) | found.setting.tokens
    free = search(judge, 0.8, step=0.3, monotone=False)
    assert found.setting == free.setting
    assert shares[blocks[0]] < shares[blocks[-1]]


def test_the_search_stops_where_too_much_is_lost(judge):
    found = search(judge, 0.05, max_drop=1.0, step=0.3, monotone=False)
    assert found.whole.accuracy - found.verdict.accuracy <= 1.0
    assert found.average_kept > 0.05


def test_each_move_costs_least_accuracy_for_the_tokens_it_stops(judge):
    found = search(judge, 0.8, step=0.25, monotone=False)
    shares = {"block.0": 1.0, "block.1": 1.0}
    accuracy, kept = found.whole.accuracy, 1.0
    for step in found.steps:
        prices = {}
        for block, share in shares.items():
            # Two steps at once from 1, 1 to 1, 0.5 reach the goal, no move goes further.
            for lower in (share - 0.25, share - 0.5)[: 2 if sum(shares.values()) == 2 else 1]:
                setting = Setting(tokens=shares | {block: lower})
                left = average_kept(apply(setting, judge.card, judge.weights)[0].config)
                prices[block, lower] = (accuracy - judge(setting).accuracy) / (kept - left)
        assert prices[step.block, step.share] == min(prices.values())
        assert step.sops == sum(
            row.sops for row in work(judge.program(Setting(tokens=shares | {
                step.block: step.share})), images_of(judge)))
        shares[step.block], accuracy = step.share, step.verdict.accuracy
        kept = step.average_kept
    assert list(shares) == list(shares_of(judge.card.config)) and found.average_kept <= 0.8


def images_of(judge: Judge):
    return search_images(*judge.task[1:]).images[:tp_spikformer.COUNTED_IMAGES]


def test_the_same_share_everywhere(judge):
    assert uniform(judge.card.config, 0.5).tokens == {"block.0": 0.5, "block.1": 0.5}
    with pytest.raises(UsageError, match="cannot be kept"):
        search(judge, 0.0)
