"""Energy from samples, whatever goes wrong with them, against what it must be."""

import numpy as np
import pytest

from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.measure.energy import energy, fit_clock, integrate, trigger_windows
from edgesvit.measure.measurement import differences, latency
from edgesvit.measure.windows import Window, Windows, read_windows
from edgesvit.measurement import energy_of
from edgesvit.meters import csv_file
from edgesvit.meters.recording import Trace
from edgesvit.meters.samples import About, Samples

RANDOM = np.random.default_rng(3)
ABOUT = About(kind="test", covers="all", error_percent=0.1)


def ramp(time_s) -> Samples:
    """1 W at 0 s, 0.5 W more each second."""
    time_s = np.asarray(time_s, float)
    return Samples(time_s, 1 + 0.5 * time_s)


def true_j(begin: float, end: float) -> float:
    return end - begin + 0.25 * (end**2 - begin**2)


def test_uneven_samples_and_edges_between_them():
    samples = ramp(np.sort(RANDOM.uniform(0, 10, 3000)))
    assert integrate(samples, 2.34567, 7.65432).energy_j == pytest.approx(
        true_j(2.34567, 7.65432), rel=1e-6)


def test_a_gap_is_counted_and_widens_the_error():
    time_s = np.arange(0, 10, 0.01)
    whole = integrate(ramp(time_s), 1, 9)
    holed = integrate(ramp(time_s[(time_s < 4) | (time_s > 6)]), 1, 9)
    assert (whole.gaps, holed.gaps) == (0, 1) and holed.gap_s == pytest.approx(2, abs=0.03)
    assert holed.energy_j == pytest.approx(whole.energy_j)  # a ramp is interpolated exactly
    assert holed.error_j > 100 * whole.error_j


@pytest.mark.parametrize("window", [(-5, 5), (5, 20), (6, 5)])
def test_a_window_without_samples_is_refused(window):
    with pytest.raises(EdgesvitError, match="do not cover"):
        integrate(ramp(np.arange(0, 10, 0.1)), *window)


def test_two_clocks_are_matched_through_late_messages():
    theirs = np.sort(RANDOM.uniform(0, 60, 500))
    ours = 1000 + theirs * (1 + 80e-6) + 0.002 + RANDOM.exponential(0.01, 500)
    clock = fit_clock(np.stack([theirs, ours], 1))
    assert clock.skew_ppm == pytest.approx(80, abs=25)
    assert clock.ours(30.0) == pytest.approx(1030.0024 + 0.002, abs=0.001)
    assert 0.003 < clock.error_s < 0.02


def test_the_idle_floor_is_taken_off_and_the_parts_of_the_error_are_told():
    time_s = np.arange(0, 20, 0.001)
    power_w = np.where((time_s >= 5) & (time_s < 15), 2.0, 0.5)
    result = energy(Samples(time_s, power_w), [(5, 10), (10, 15)], [100, 100], (0, 4), "measured",
                    1.0, 0.002, 10.0)
    assert result.mj_per_inference == pytest.approx(100, rel=1e-3)
    assert result.mj_per_inference_above_idle == pytest.approx(75, rel=1e-3)
    assert result.idle_w == pytest.approx(0.5) and result.mean_w == pytest.approx(2, rel=1e-3)
    parts = result.uncertainty_parts_mj
    assert parts["meter"] == pytest.approx(1.0, rel=1e-2)
    assert parts["clocks"] == pytest.approx(1000 * 2**0.5 * 0.002 * 1.5 / 100, rel=0.01)
    assert result.uncertainty_mj == pytest.approx(sum(v * v for v in parts.values()) ** 0.5)


def square_trace(emulated: bool = False, trigger: bool = True) -> Trace:
    time_s = np.arange(100, 120, 0.001)
    busy = (time_s % 5) >= 3  # 103..105, 108..110, ...
    samples = Samples(time_s, np.where(busy, 2.0, 0.5), trigger=busy if trigger else None)
    about = About(kind="test", covers="all", error_percent=0.1, emulated=emulated)
    return Trace(about, samples, np.stack([time_s, time_s - 50], 1))


def test_the_trigger_goes_before_the_clocks():
    """The host's marks are 0.2 s off; the trigger knows better."""
    windows = Windows([Window(53.2, 55.2, 10), Window(58.2, 60.2, 10)], (50.5, 52.5), 0.005)
    marked = energy_of(windows, square_trace(), "measured")
    assert marked.mj_per_inference == pytest.approx(400, rel=2e-3)
    assert marked.clock_skew_ppm is None and marked.uncertainty_parts_mj["clocks"] == 0
    clocked = energy_of(windows, square_trace(trigger=False), "measured")
    assert clocked.mj_per_inference == pytest.approx(370, rel=5e-3)
    assert clocked.clock_skew_ppm == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("board", "meter", "label"), [
    ("measured", False, "measured"), ("measured", True, "emulated"),
    ("emulated", False, "emulated"), ("emulated", True, "emulated")])
def test_the_label_is_the_weaker_one(board, meter, label):
    windows = Windows([Window(53, 55, 10)], None, 0.0)
    assert energy_of(windows, square_trace(meter), board).label == label


def test_csv(tmp_path):
    path = tmp_path / "run.csv"
    rows = [f"{t},{3.3 if t % 2 else 3.3},{1000 if 20 <= t < 40 else 100},{int(20 <= t < 40)}"
            for t in range(60)]
    path.write_text("\n".join(["time_ms,voltage_v,current_ma,trigger", *rows[:30], "oops,1,2,3",
                               *rows[30:]]))
    trace = csv_file.read(str(path))
    assert trace.samples.damaged == 1 and len(trace.samples) == 60
    [(begin, end)] = trigger_windows(trace.samples)
    assert integrate(trace.samples, begin, end).energy_j == pytest.approx(3.3 * 0.020, rel=0.05)
    result = energy_of(Windows([Window(0, 1, 5)], None, 0.0), trace, "measured")
    assert result.label == "measured" and "not known" in result.warnings[-1]
    with pytest.raises(UsageError, match="1 trigger pulses for 2 windows"):
        energy_of(Windows([Window(0, 1, 5)] * 2, None, 0.0), trace, "measured")
    for text in ("", "a,b\n1,2", "time_s,power_w\n2,1\n1,1"):
        path.write_text(text)
        with pytest.raises(UsageError):
            csv_file.read(str(path))


LINES = ["window index=0 kind=idle edge=begin ns=1000000000 inferences=0",
         "window index=0 kind=idle edge=end ns=2000000000 inferences=0",
         "window index=0 kind=work edge=begin ns=2000000000 inferences=0",
         "window index=0 kind=work edge=end ns=3000000000 inferences=40",
         "samples index=0 inferences=20 ns=400000000,600000000"]


def test_the_runner_s_windows():
    told = [(51 + i, line) for i, line in enumerate(LINES)]
    windows = read_windows(told, False, True, "board")
    assert windows.idle == (1.0, 2.0) and windows.edge_error_s == 0
    [window] = windows.work
    assert (window.begin_s, window.end_s, window.seconds, window.inferences) == (2, 3, 1, 40)
    spent = latency(windows.work)
    assert spent.window_means == [25000] and (spent.minimum, spent.maximum) == (20000, 30000)
    emulated = read_windows(told, True, False, "board")
    assert emulated.work[0].begin_s == 53 and emulated.idle is None
    assert latency(emulated.work) is None  # its clock tells nothing
    with pytest.raises(EdgesvitError, match="has no end"):
        read_windows(told[:3], False, True, "board")
    with pytest.raises(EdgesvitError, match="cannot read"):
        read_windows([(1, "window index=x kind=work edge=begin ns=1 inferences=0")], False, True,
                     "board")


def test_what_makes_two_results_incomparable():
    one = {"target": "rpi5", "label": "measured", "threads": 1, "energy": {"label": "measured"},
           "meter": {"kind": "pmic"}, "environment": {
               "before": {"governor": "performance", "temperature_c": 50.0}, "after": {}}}
    assert differences(one, one) == []
    other = {**one, "threads": 4, "meter": {"kind": "ppk2"}, "environment": {
        "before": {"governor": "ondemand", "temperature_c": 75.0}, "after": {"throttled": "0x4"}}}
    said = "; ".join(differences(one, other))
    for part in ("threads: 1 and 4", "governor: performance and ondemand", "50 and 75 C",
                 "throttled: 0x4", "meter kind: pmic and ppk2"):
        assert part in said
