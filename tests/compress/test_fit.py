"""The joint search on a trained model: levers, limits, the frontier, interruptions, a cluster."""

import json
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
from edgesvit.boards.counted import counted  # noqa: E402
from edgesvit.compress import cluster, fit, levers  # noqa: E402
from edgesvit.compress.frontier import frontier, point  # noqa: E402
from edgesvit.compress.judge import Judge  # noqa: E402
from edgesvit.compress.limits import Costs, Limits, instruction_names  # noqa: E402
from edgesvit.compress.prunable import Infeasible  # noqa: E402
from edgesvit.compress.setting import WHOLE, Setting, apply  # noqa: E402
from edgesvit.errors import Unreachable, UsageError  # noqa: E402
from edgesvit.evaluate import unchecked_program  # noqa: E402
from edgesvit.report.frontier_plot import frontier_svg  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402

BUDGET = msgspec.structs.replace(profiles.load("fit"), weights_bytes=48 * 1024)
LEVERS = ("channels", "bits", "time")
BOARD = (targets.load("nucleo-f446re"),)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return Judge(RunFolder(shipped_model("spikformer-digits")), "digits",
                 tmp_path_factory.mktemp("judge") / "search.jsonl", images=200)


def search(judge, drop=2.0, levers=LEVERS, **limits):
    options = fit.Options(max_drop=drop, levers=levers, groups=("hidden", "stem", "stream"),
                          **limits)
    return fit.search(judge, BOARD, BUDGET, options)


def test_all_levers_together_meet_the_limits(judge):
    found = search(judge, save_instructions=25)
    assert not found.unmet
    best = found.best
    assert best.verdict.accuracy >= judge.whole.accuracy - 2
    assert best.verdict.program_bytes <= BUDGET.weights_bytes
    assert best.used["instructions"] <= 0.75 * found.steps[0].used["instructions"]
    assert all(step.used["program"] == step.verdict.program_bytes for step in found.judged)
    assert len({step.move.split()[0] for step in found.steps[1:]}) >= 2
    assert search(judge, save_instructions=25) == found


def test_widths_are_chosen_once_more_when_the_rest_is_known(judge):
    found = search(judge, drop=2, levers=("channels", "bits"), save_instructions=20)
    *_, before, best = found.steps
    assert best.move == "widths chosen once more" and not found.unmet
    assert best.verdict.accuracy > before.verdict.accuracy
    assert best.setting.kept == before.setting.kept and best.setting.bits != before.setting.bits


def test_few_large_moves_may_lose_less_than_many_small_ones(judge):
    found = search(judge, drop=4, levers=("channels", "bits"), save_instructions=15)
    *_, before, best = found.steps
    assert best.move == "large moves first" and not found.unmet
    assert best.verdict.accuracy > before.verdict.accuracy


def test_what_the_limits_leave_room_for_is_given_back(judge):
    costs = Costs(judge, BOARD)
    bits = fit.Options(max_drop=4, levers=("bits",))
    enough = Limits({"program": costs(WHOLE)["program"] - 1})
    search = fit.Search(judge, costs, enough, bits)
    losses = search._study()
    levels = {i: len(lever.levels) - 1 for i, lever in enumerate(search.levers)}
    steps = [search._step("all as narrow as can be", levers.setting_of(search.levers, levels))]
    less = search._given_back(steps, levels, losses)
    assert all(less[i] <= level for i, level in levels.items()) and less != levels
    accuracies = [step.verdict.accuracy for step in steps]
    assert accuracies == sorted(set(accuracies)) and steps[-1].move.startswith("back to bits")
    assert not enough.unmet(steps[-1].used)


def test_gain_counts_beyond_the_limits():
    limits = Limits({"flash": 100, "ram": 10})
    before, after = {"flash": 200, "ram": 5}, {"flash": 50, "ram": 20}
    assert limits.gain(before, after) == pytest.approx(np.log(4) - np.log(2))
    assert limits.excess(before) - limits.excess(after) == pytest.approx(0)


def test_a_model_that_fits_is_left_alone(judge):
    options = fit.Options(max_drop=2, levers=LEVERS)
    found = fit.search(judge, (targets.load("host"),), profiles.load("fit"), options)
    assert [step.move for step in found.steps] == ["whole model"]


def test_what_cannot_be_met_is_explained(judge):
    found = search(judge, drop=0.5, save_instructions=99.9)
    options = fit.Options(max_drop=0.5, levers=LEVERS)
    with pytest.raises(Infeasible, match="INFEASIBLE.*best reached.*instructions") as told:
        fit.require_found(found, BOARD, options)
    assert "--levers with tokens,depth too" in told.value.hint
    assert found.best.verdict.accuracy >= judge.whole.accuracy - 0.5


def test_two_boards_have_limits_of_their_own(judge):
    both = (*BOARD, targets.load("qemu-user-a76"))
    costs = Costs(judge, both)
    limits = costs.limits(profiles.load("fit"), save_memory=0, save_instructions=30)
    assert {"flash of nucleo-f446re", "ram of qemu-user-a76", "instructions of nucleo-f446re",
            "instructions of qemu-user-a76"} <= limits.of.keys()
    whole = costs(WHOLE)
    assert limits.unmet(whole) == tuple(instruction_names(both).values())
    assert limits.excess(whole) == pytest.approx(2 * np.log(1 / 0.7))
    tighter = limits.tightened(instruction_names(both).values(), 0.1)
    assert tighter.excess(whole) == pytest.approx(2 * np.log(1 / 0.63))
    half, end = limits.partway(whole, 0.5), limits.partway(whole, 1.0)
    assert half.excess(whole) == pytest.approx(limits.excess(whole) / 2)
    assert half.of["flash of nucleo-f446re"] == limits.of["flash of nucleo-f446re"]  # met before
    assert end.of == pytest.approx(limits.of)


def test_predictions_begin_at_what_the_emulator_counts(judge):
    board = targets.load("qemu-user-a76")
    costs = Costs(judge, (board,))
    images = judge.images()
    assert costs(WHOLE)["instructions"] == pytest.approx(
        counted(judge.program(WHOLE), board, images[:4]))
    assert counted(judge.program(WHOLE), targets.load("rpi5"), images[:1]) is None


def test_what_meets_the_limits_was_counted(judge):
    board = targets.load("qemu-user-a76")
    options = fit.Options(max_drop=4, levers=("channels",), save_instructions=20)
    said = []
    found = fit.search(judge, (board,), profiles.load("fit"), options, said.append)
    assert any(line.startswith("measured: instructions") for line in said)
    count = counted(judge.program(found.best.setting), board, judge.images()[:4])
    assert found.best.used["instructions"] == pytest.approx(count)
    assert not found.unmet and count <= found.limits.of["instructions"]
    whole = Costs(judge, (board,))
    assert whole(found.best.setting)["instructions"] != pytest.approx(count, rel=0.01)
    whole.measure(found.best.setting)
    assert whole(found.best.setting)["instructions"] == pytest.approx(count)


def test_progress_is_a_share_though_measured_more_is_lacking(judge):
    board, shares = targets.load("qemu-user-a76"), []
    costs = Costs(judge, (board,))
    costs.measure(Setting(time_steps=2))
    costs.scales[board.name] /= 2  # by what is predicted, nothing is lacking in the beginning
    options = fit.Options(max_drop=100, levers=("bits", "channels"))
    begun = fit.Search(judge, costs, Limits({"instructions": 1.1 * costs(WHOLE)["instructions"]}),
                       options, watch=lambda what, share: shares.append(share))
    begun._moved(begun.steps, begun._nothing(), begun._nothing(), begun._study(), floor=0.0)
    assert len(shares) > 10 and all(0 <= share <= 1 for share in shares)


def test_what_cannot_be_counted_is_predicted(judge):
    board, said = targets.load("qemu-netduinoplus2"), []
    less = msgspec.structs.replace(board, memory=tuple(
        msgspec.structs.replace(region, bytes=region.bytes // 64) for region in board.memory))
    costs = Costs(judge, (less,), said.append)
    assert costs.scales == {board.name: 1.0} and costs(WHOLE)["instructions"] > 0
    costs.measure(Setting(tokens={"block.0": 0.5}))  # the whole model was not counted either
    assert costs.scales == {board.name: 1.0}
    assert len(said) == 1 and "predicted alone" in said[0]


def test_levers_begin_where_the_model_is(judge):
    setting = Setting(bits={"block.0.mlp.fc1_linear": 5, "block.0.mlp.fc2_linear": 5},
                      tokens={"block.0": 0.75}, time_steps=2)
    every = levers.levers(*apply(setting, judge.card, judge.weights), 8, levers.KINDS)
    found = {(lever.kind, lever.name): lever.levels for lever in every}
    assert found["bits", "block.0.mlp"] == (5, 4, 3, 2)
    assert found["bits", "block.1.mlp"] == (8, 6, 5, 4, 3, 2)
    assert found["tokens", "block.0"] == (0.75, 0.625, 0.5)
    assert found["time", "steps"] == (2, 1)
    assert found["depth", "block.1"] == (1, 0) and ("depth", "block.0") not in found
    assert ("channels", "stream.0") in found
    whole = levers.setting_of(every, dict.fromkeys(range(len(every)), 0))
    assert whole == WHOLE


def test_a_block_without_tokens_is_in_no_program(judge):
    program = unchecked_program(*apply(Setting(tokens={"block.1": 0.0}), judge.card,
                                       judge.weights))
    assert not any(op.output.startswith("block.1") for op in program.ops)


def test_fewer_steps_get_lower_thresholds(judge):
    assert levers.threshold_scale(2, 1) == pytest.approx((2 / 3) ** 0.5)
    assert levers.threshold_scale(4, 4) == 1
    search = fit.Search(judge, Costs(judge, BOARD), Limits({}),
                        fit.Options(max_drop=1, levers=("time",)))
    [lever] = search.levers
    setting = levers.setting_of([lever], {0: 3})
    assert setting.time_steps == 1 and setting.threshold_scale == lever.scales[3] < 1
    card, _ = apply(setting, judge.card, judge.weights)
    assert card.config.threshold == lever.scales[3] * judge.card.config.threshold
    assert judge(setting).accuracy > judge(Setting(time_steps=1)).accuracy + 10


def test_losses_never_fall():
    assert fit.rising([0.5, 0.0, 1.0, 3.0, 2.0]) == [0.25, 0.25, 1.0, 2.5, 2.5]
    assert fit.rising([1.0, 2.0]) == [1.0, 2.0] and fit.rising([]) == []


def test_the_frontier_keeps_what_nothing_beats(judge):
    found = search(judge)
    points = [point(step, BOARD) for step in found.judged]
    kept = frontier(points)
    assert 1 < len(kept) < len(points)
    for one in points:
        beaten = [other.program_bytes <= one.program_bytes and other.accuracy >= one.accuracy
                  and other.instructions["nucleo-f446re"] <= one.instructions["nucleo-f446re"]
                  for other in kept]
        assert any(beaten)  # by itself, where it was kept
    sizes = [p.program_bytes for p in kept]
    assert sizes == sorted(sizes, reverse=True)
    picture = frontier_svg("a < b", {"bytes": [(p.program_bytes, p.accuracy) for p in kept]}, [0])
    assert picture.count("<circle") == len(kept) + 1 and "a &lt; b" in picture


KILLED = """
import sys
from pathlib import Path
from tests.compress.test_fit import search
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
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for answers in (3, 25):  # killed with this many answers on disk
        _signalled(command, environment, store, answers, signal.SIGKILL)
    known = _lines(store)
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    key, asked = last.stdout.split()
    assert key == search(judge).best.setting.key()
    assert known >= 25 and int(asked) < int(asked) + known == _lines(store)


def test_ctrl_c_keeps_the_best_so_far(tmp_path):
    out = RunFolder(tmp_path / "out")
    command = [sys.executable, "-m", "edgesvit", "compress", "--method", "fit", "--target",
               "nucleo-f446re", "--save-memory", "95", "--max-drop", "10", "--search-images",
               "200", "--run", str(out.path), "--levers", "channels,time", "--groups", "hidden"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    store = out.path / "search.jsonl"
    process = _signalled(command, environment, store, 21, signal.SIGINT)
    said = process.stderr.read().decode()
    assert process.returncode == 130, said
    assert "the best so far is in" in said and "goes on" in said and "Traceback" not in said
    checked = subprocess.run([sys.executable, "-m", "edgesvit", "deploy", "--target", "host",
                              "--model", str(out.path), "--images", "5", "--json"],
                             env=environment, capture_output=True, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr.decode()
    assert json.loads(checked.stdout)["results"][0]["logits_equal"] == 5


def test_a_cluster_gives_the_same_answers(judge, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="needs Dask: pip install 'edgesvit[cluster]'")
    settings = [Setting(time_steps=t) for t in (1, 2, 3)]
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                  dashboard_address=None) as workers:
        far = Judge(judge.source, "digits", tmp_path / "search.jsonl", images=200,
                    cluster=workers.scheduler_address)
        told = []
        assert far.many(settings, lambda *done: told.append(done)) == judge.many(settings)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_cluster_that_is_not_there_is_named(judge, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    far = Judge(judge.source, "digits", tmp_path / "search.jsonl", images=200,
                cluster="tcp://127.0.0.1:9")
    with pytest.raises((UsageError, Unreachable), match="Dask"):
        far.many([Setting(time_steps=1), Setting(time_steps=2)])


def _signalled(command, environment, store: Path, answers: int, number: int) -> subprocess.Popen:
    """The process, ended by a signal when so many answers were on disk."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    while process.poll() is None and _lines(store) < answers:
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    return process


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
