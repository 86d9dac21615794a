"""QSViT's widths and the joint search on a trained model, with its real judge."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from edgesvit import profiles, targets  # noqa: E402
from edgesvit.compress import fit, qsvit  # noqa: E402
from edgesvit.compress.drift import Drift  # noqa: E402
from edgesvit.compress.judge import Judge  # noqa: E402
from edgesvit.compress.prunable import Infeasible  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402

BUDGET = msgspec.structs.replace(profiles.load("fit"), weights_bytes=48 * 1024)
LEVERS = ("channels", "bits", "time")


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


def test_qsvit_stops_at_the_memory_asked_for(judge):
    found = qsvit.Search(judge, qsvit.Options(save_memory=78), lambda text: None)
    widths = found.narrow(dict.fromkeys(found.free, 8), found.study())
    assert 78 <= found.saved(widths) < 82


def test_qsvit_says_what_it_cannot_save(judge):
    with pytest.raises(Infeasible, match="INFEASIBLE: 95 %.*best point: ") as caught:
        qsvit.search(judge, qsvit.Options(max_drop=0.5, save_memory=95))
    assert judge(caught.value.best).accuracy >= judge.whole.accuracy - 0.5


def test_drift_grows_as_weights_get_narrower(judge):
    drift = Drift(judge.card, judge.weights, judge.images())
    names = ("block.0.mlp.fc1_linear", "block.1.attn.q_linear")
    moved = [drift(dict.fromkeys(names, bits)) for bits in (8, 5, 3, 2)]
    assert 0 < moved[0] < moved[1] < moved[2] < moved[3]


def search(judge, drop=2.0, **limits):
    options = fit.Options(max_drop=drop, levers=LEVERS, **limits)
    return fit.search(judge, targets.load("nucleo-f446re"), BUDGET, options)


def test_all_levers_together_meet_the_limits(judge):
    found = search(judge, save_instructions=40)
    assert not found.unmet
    best = found.best
    assert best.verdict.accuracy >= judge.whole.accuracy - 2
    assert best.verdict.program_bytes <= BUDGET.weights_bytes
    assert best.used["instructions"] <= 0.6 * found.steps[0].used["instructions"]
    assert len({step.move.split()[0] for step in found.steps[1:]}) >= 2
    assert search(judge, save_instructions=40) == found


def test_a_model_that_fits_is_left_alone(judge):
    options = fit.Options(max_drop=2, levers=LEVERS)
    found = fit.search(judge, targets.load("host"), profiles.load("fit"), options)
    assert [step.move for step in found.steps] == ["whole model"]


def test_what_cannot_be_met_is_explained(judge):
    found = search(judge, drop=0.5, save_instructions=99.9)
    options = fit.Options(max_drop=0.5, levers=LEVERS)
    with pytest.raises(Infeasible, match="INFEASIBLE.*best reached.*instructions"):
        fit.require_found(found, targets.load("nucleo-f446re"), options)
    assert found.best.verdict.accuracy >= judge.whole.accuracy - 0.5


def test_the_frontier_keeps_what_nothing_beats(judge):
    found = search(judge)
    points = [(step.setting, step.used, step.verdict) for step in found.steps]
    kept = list(fit.frontier(points, "flash"))
    sizes = [points[i][1]["flash"] for i in kept]
    assert sizes == sorted(sizes, reverse=True)
    assert np.all(np.diff([points[i][2].accuracy for i in kept]) < 0)


KILLED = """
import sys
from pathlib import Path
from tests.compress.test_searches import search
from edgesvit.compress.judge import Judge
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
model = RunFolder(shipped_model("spikformer-digits"))
judge = Judge(model, "digits", Path(sys.argv[1]), images=200)
print(search(judge).best.setting.key(), judge.asked)
"""


def test_a_killed_search_ends_where_an_undisturbed_one_does(judge, tmp_path):
    store = tmp_path / "search.jsonl"
    command = [sys.executable, "-c", KILLED, str(store)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for answers in (3, 25):  # killed with this many answers on disk
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and _lines(store) < answers:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    known = _lines(store)
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    key, asked = last.stdout.split()
    assert key == search(judge).best.setting.key()
    assert known >= 25 and int(asked) < int(asked) + known == _lines(store)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
