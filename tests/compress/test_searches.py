"""QSViT's widths on a trained model, with its real judge."""

import pytest

pytest.importorskip("torch")

from edgesvit.compress import precision, qsvit  # noqa: E402
from edgesvit.compress.drift import Drift  # noqa: E402
from edgesvit.compress.judge import Judge  # noqa: E402
from edgesvit.compress.prunable import Infeasible  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return Judge(RunFolder(shipped_model("spikformer-digits")), "digits",
                 tmp_path_factory.mktemp("judge") / "search.jsonl", images=200)


def test_qsvit_narrows_within_the_accuracy(judge):
    options = qsvit.Options(max_drop=1.0)
    setting = qsvit.search(judge, options)
    verdict = judge(setting)
    assert verdict.accuracy >= judge.whole.accuracy - 1.0
    assert verdict.program_bytes < 0.65 * judge.whole.program_bytes
    rows = qsvit.describe(judge, setting)
    assert rows[0][2] == rows[-1][2] == 8  # the ends are protected
    assert len({bits for _, _, bits in rows}) > 2


def test_a_larger_sample_widens_what_qsvit_found(judge, tmp_path):
    options = qsvit.Options(max_drop=1.0)
    larger = Judge(judge.source, "digits", tmp_path / "search.jsonl", images=400, seed=1)
    loose = qsvit.search(judge, qsvit.Options(max_drop=6.0))
    assert larger.whole.accuracy - larger(loose).accuracy > 1.0
    found = qsvit.Search(judge, options, lambda text: None)
    widths = {unit: min(loose.bits[layer] for layer in names)
              for unit, names in found.units.items() if unit in found.free}
    wider = found.repair(widths, found.study(), larger)
    assert found.holds(wider, larger) and not found.holds(widths, larger)
    assert all(wider[unit] >= bits for unit, bits in widths.items())
    assert any(wider[unit] == bits < 8 for unit, bits in widths.items())  # not all pay for it
    # On a sample of its own a search keeps a standard error to spare.
    verdict = larger(found.setting(wider))
    assert larger.whole.accuracy - verdict.accuracy + verdict.standard_error <= 1.0


def test_qsvit_stops_at_the_memory_asked_for(judge):
    found = qsvit.Search(judge, qsvit.Options(save_memory=78), lambda text: None)
    widths = found.narrow(dict.fromkeys(found.free, 8), found.study())
    assert 78 <= found.saved(widths) < 82


def test_qsvit_takes_no_more_than_the_memory_asked_for(judge):
    most, enough = (qsvit.search(judge, qsvit.Options(max_drop=6.0, save_memory=asked))
                    for asked in (0, 80))
    found = qsvit.Search(judge, qsvit.Options(save_memory=80), lambda text: None)
    saved = [100 * (1 - precision.weight_bits(found.sizes, setting.bits, 8)
                    / (32 * sum(found.sizes.values()))) for setting in (most, enough)]
    assert saved[0] > 85 and 80 <= saved[1] < 82
    assert judge(enough).flipped < judge(most).flipped


def test_qsvit_says_what_it_cannot_save(judge):
    with pytest.raises(Infeasible, match="INFEASIBLE: 95 %.*best point: ") as caught:
        qsvit.search(judge, qsvit.Options(max_drop=0.5, save_memory=95))
    assert judge(caught.value.best).accuracy >= judge.whole.accuracy - 0.5


def test_drift_grows_as_weights_get_narrower(judge):
    drift = Drift(judge.card, judge.weights, judge.images())
    names = ("block.0.mlp.fc1_linear", "block.1.attn.q_linear")
    moved = [drift(dict.fromkeys(names, bits)) for bits in (8, 5, 3, 2)]
    assert 0 < moved[0] < moved[1] < moved[2] < moved[3]
