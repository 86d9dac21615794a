"""What PSViT and PrimeSVT decide, on a judge whose answers follow from a formula."""

import pytest

from edgesvit.compress import primesvt, psvit
from edgesvit.compress.prunable import HIDDEN, Infeasible, drop, prunable, saved
from edgesvit.compress.setting import WHOLE, Setting
from edgesvit.errors import UsageError
from tests.compress.formula import Formula
from tests.compress.models import CONFIGS, firing

# Large and robust, large and sensitive, small and robust, small and sensitive.
MIXED = {"a.0": (4000, 1.0), "b.0": (3000, 50.0), "c.0": (1500, 0.5), "d.0": (500, 40.0)}


@pytest.fixture
def judge():
    return Formula(MIXED)


def test_psvit_prunes_what_bears_it(judge):
    options = psvit.Options(save_memory=40)
    found = psvit.profile(judge, judge.model, options, lambda text: None)
    assert drop(judge.whole, found.alone["b.0", 0.5]) == pytest.approx(12.5)
    # All at 0.1 lose 0.9 points, at 0.2 3.7: half of three points allow 0.1.
    assert psvit.uniform_rate(judge.whole, found, options) == 0.1
    rates = psvit.fine_grained(judge.whole, found, judge.model, options, base=0.1)
    # Alone, a loses half a point at 0.7, c at 0.9; b loses 0.5 at 0.1, d 0.4.
    assert rates == {"a.0": 0.7, "b.0": 0.1, "c.0": 0.9, "d.0": 0.1}
    above = psvit.fine_grained(judge.whole, found, judge.model, options, base=0.2)
    assert above["b.0"] == 0 and above["d.0"] == 0, "sensitive groups stay whole"


def test_psvit_scales_down_to_what_was_asked(judge):
    setting = psvit.search(judge, judge.model, psvit.Options(save_memory=22.4))
    whole, found = judge.many([WHOLE, setting])
    assert 22.4 <= saved(whole, found) < 25 and drop(whole, found) < 0.5
    uniform = [judge(judge.model.setting(dict.fromkeys(MIXED, rate))) for rate in psvit.RATES]
    least = min(drop(whole, v) for v in uniform if saved(whole, v) >= 22.4)
    assert drop(whole, found) < least / 2, "fine-grained rates beat uniform ones"


def test_psvit_scales_down_to_the_accuracy():
    judge = Formula({"a.0": (4000, 3.0), "b.0": (4000, 3.0), "c.0": (1000, 0.0)})
    options = psvit.Options(max_drop=2, save_memory=0, tolerance=1.9)
    setting = psvit.search(judge, judge.model, options)
    assert 1.8 < drop(judge.whole, judge(setting)) <= 2


def test_psvit_scales_up_to_what_was_asked(judge):
    setting = psvit.search(judge, judge.model, psvit.Options(save_memory=48, tolerance=0.1))
    assert saved(judge.whole, judge(setting)) >= 48
    assert drop(judge.whole, judge(setting)) <= 3


def test_psvit_takes_what_a_larger_sample_agrees_with(judge):
    options = psvit.Options(save_memory=22.4)
    first = psvit.search(judge, judge.model, options)
    larger = Formula(MIXED | {"a.0": (4000, 14.0)}, images=3000)
    second = psvit.search(judge, judge.model, options, larger=larger)
    assert drop(larger.whole, larger(first)) > 3 >= drop(larger.whole, larger(second))
    assert saved(judge.whole, judge(second)) >= 22.4
    larger = Formula({name: (size, 900.0) for name, (size, _) in MIXED.items()}, images=3000)
    with pytest.raises(Infeasible, match="points lost on 3000 search images") as caught:
        psvit.search(judge, judge.model, options, larger=larger)
    assert drop(larger.whole, larger(caught.value.best)) <= 3


def test_primesvt_takes_the_largest_robust_group_first(judge):
    search = primesvt.Search(judge, judge.model, primesvt.Options(), lambda text: None)
    assert search.order == ["a.0", "b.0", "c.0", "d.0"]
    assert search.targets() == ["a.0", "c.0"]
    equal = Formula({"x.0": (10, 1), "x.1": (10, 1)})
    assert primesvt.Search(equal, equal.model, primesvt.Options(), print).order == ["x.1", "x.0"]


def test_primesvt_prunes_no_more_than_was_asked(judge):
    setting = primesvt.search(judge, judge.model, primesvt.Options(save_memory=20))
    # 20 % of 10,000 bytes are half of the largest group, and rates rise in steps of 0.025.
    assert setting.kept == {"a.0": 48}


def test_greedy_spends_on_the_first_group_proportional_does_not():
    judge = Formula({"a.0": (4000, 8.0), "b.0": (4000, 8.0)})
    spent = {}
    for budget in ("greedy", "proportional"):
        options = primesvt.Options(max_drop=4, save_memory=0, budget=budget)
        setting = primesvt.search(judge, judge.model, options)
        assert drop(judge.whole, judge(setting)) <= 4
        spent[budget] = setting.kept
    # The root of 4 / 8 is 0.707, of 2 / 8 it is 0.5.
    assert spent["greedy"] == {"a.0": 90, "b.0": 30}
    assert spent["proportional"] == {"a.0": 50, "b.0": 50}


def test_primesvt_goes_on_with_the_other_groups(judge):
    options = primesvt.Options(save_memory=55)
    setting = primesvt.search(judge, judge.model, options)
    assert {"a.0", "b.0", "c.0"} <= set(setting.kept), "b is no target, but needed"
    assert saved(judge.whole, judge(setting)) >= 55
    assert drop(judge.whole, judge(setting)) <= 3


def test_primesvt_asks_less_than_psvit():
    groups = {f"g.{i}": (1000 + i, i % 5) for i in range(12)}
    asked = {}
    for method in (psvit, primesvt):
        judge = Formula(groups)
        method.search(judge, judge.model, method.Options(save_memory=30))
        asked[method] = len(set(judge.asked))
    assert asked[primesvt] < asked[psvit]


def test_what_a_layer_may_lose_is_earned_by_the_memory_it_saves():
    judge = Formula({"a.0": (4000, 12.0), "b.0": (3000, 1.0)})
    with pytest.raises(Infeasible):  # three points on half of a, which leaves nothing for b
        primesvt.search(judge, judge.model, primesvt.Options(save_memory=40, budget="greedy"))
    setting = primesvt.search(judge, judge.model, primesvt.Options(save_memory=40))
    assert saved(judge.whole, judge(setting)) >= 40
    assert drop(judge.whole, judge(setting)) < 2.5


def test_a_larger_sample_takes_back_the_last_group(judge):
    options = primesvt.Options(save_memory=0)
    before = primesvt.search(judge, judge.model, options)
    assert before.kept == {"a.0": 3, "c.0": 3}
    # To that sample a alone loses 0.94 points, and c 40 times the square of its rate.
    larger = Formula(MIXED | {"c.0": (1500, 40.0)}, images=3000)
    after = primesvt.search(judge, judge.model, options, larger=larger)
    assert after.kept == {"a.0": 3, "c.0": 78}
    larger = Formula(MIXED | {"a.0": (4000, 3.0), "c.0": (1500, 4000.0)}, images=3000)
    gone = primesvt.search(judge, judge.model, options, larger=larger)
    assert gone.kept == {"a.0": 3}, "of c not even a fortieth"


@pytest.mark.parametrize("method", [psvit, primesvt])
@pytest.mark.parametrize(("asked", "binds"), [
    ({"save_memory": 60.0, "max_drop": 0.5}, "accuracy, which is the constraint that binds"),
    ({"save_memory": 95.0}, "the chosen groups hold too little"),
])
def test_the_impossible_names_what_binds_and_the_best_point(judge, method, asked, binds):
    with pytest.raises(Infeasible, match=binds) as caught:
        method.search(judge, judge.model, method.Options(**asked))
    assert caught.value.exit_code == 3 and caught.value.hint
    best = judge(caught.value.best)
    assert drop(judge.whole, best) <= asked.get("max_drop", 3.0)
    assert f"{saved(judge.whole, best):.2f} % saved" in caught.value.message
    assert saved(judge.whole, best) > 10


@pytest.mark.parametrize("method", [psvit, primesvt])
def test_nothing_may_be_lost_nothing_is_taken(judge, method):
    assert method.search(judge, judge.model, method.Options(max_drop=0)) == WHOLE


@pytest.mark.parametrize("method", [psvit, primesvt])
def test_equal_searches_end_alike(method):
    settings = []
    for _ in range(2):
        judge = Formula(MIXED)
        settings.append(method.search(judge, judge.model, method.Options()).key())
    assert settings[0] == settings[1]


def test_what_is_prunable():
    config, weights = CONFIGS["sdt_v2"], firing("sdt_v2")
    kinds = {name.split(".")[0] for name in prunable(config, weights).names}
    assert "stream" not in kinds and {"rep_q", "sep", "qk"} <= kinds
    faithful = prunable(config, weights, ("hidden", "conv", "sep"), round_to=1)
    assert {name.split(".")[0] for name in faithful.names} == set(HIDDEN) - {"mix"}
    assert prunable(config, weights, HIDDEN).names == prunable(
        config, weights, ("hidden", "conv", "sep")).names
    setting = faithful.setting({"hidden.1": 0.25, "conv.0": 0.0})
    assert setting == Setting(kept={"hidden.1": 24})
    in_lanes = prunable(config, weights, ("qk", "hidden"))
    # Two heads fill eight channels with four each.
    assert in_lanes.setting({"qk.1": 0.4, "hidden.1": 0.4}).kept == {"qk.1": 4, "hidden.1": 16}
    with pytest.raises(UsageError, match="no channel groups of the kind 'attention'"):
        prunable(config, weights, ("attention",))
