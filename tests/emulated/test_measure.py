"""`edgesvit measure` end to end: host, emulated Linux over ssh, emulated microcontroller."""

import json
import subprocess
import sys

import numpy as np
import pytest

from edgesvit import targets
from tests.emulated.test_deploy import target_or_skip
from tests.fakes.meters import FakeBridge
from tests.fakes.waves import VOLTS, Wave

pytestmark = pytest.mark.emulated
MEAN_W = VOLTS * 0.2


def measured(folder, *options: str, code: int = 0) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "edgesvit", "measure", "--json", "--images", "3", "--windows", "2",
         "--seconds", "0.3", "--idle", "0.3", "--run", str(folder), *options],
        capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["host", "qemu-aarch64", "qemu-mps2-an386"])
def test_with_an_emulated_ina228(name, tmp_path):
    target_or_skip(name)
    with FakeBridge("ina228", Wave.square(0.1, 0.3, 0.01)) as fake:
        [result] = measured(tmp_path, "--target", name, "--layers", "--meter",
                            f"ina228:{fake.path}")["results"]
    real = targets.load(name).emulator is None
    assert result["label"] == ("measured" if real else "emulated")
    assert (result["latency_us"] is not None) == real
    assert {layer["unit"] for layer in result["layers"]} == {"us" if real else "instructions"}
    energy = result["energy"]
    assert energy["label"] == "emulated" and result["meter"]["emulated"]  # whatever the board is
    assert result["analytical"]["label"] == "estimated" and result["analytical"]["field_mj"] > 0
    assert energy["mean_w"] == pytest.approx(MEAN_W, rel=0.05)
    for window, inferences in zip(energy["windows"], result["inferences"], strict=True):
        assert inferences >= 10
        seconds = window["end_s"] - window["begin_s"]
        assert window["energy_j"] == pytest.approx(MEAN_W * seconds, rel=0.05, abs=0.005)
    with np.load(tmp_path / result["trace"]) as trace:
        assert {"time_s", "power_w", "energy_j", "arrivals"} <= set(trace.files)
    stored = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(stored[-1]) == result


def test_a_meter_that_is_pulled_out_keeps_what_it_saw(tmp_path):
    target_or_skip("host")
    with FakeBridge("ina226", Wave.constant(0.2)) as fake:
        fake.unplug_after = 300
        said = measured(tmp_path, "--target", "host", "--meter", f"ina226:{fake.path}", code=4)
    [error] = said["errors"]
    assert "the connection broke" in error["message"] and "samples were kept" in error["hint"]
    stored = json.loads((tmp_path / "results.jsonl").read_text())
    assert stored["energy"] is None and stored["latency_us"]
    with np.load(tmp_path / stored["trace"]) as trace:
        assert len(trace["time_s"]) >= 300


def test_report_compares_and_doctor_lists(tmp_path):
    target_or_skip("host")
    for threads in ("1", "2"):
        measured(tmp_path / threads, "--target", "host", "--threads", threads)
    runs = [str(tmp_path / threads) for threads in ("1", "2")]
    done = subprocess.run([sys.executable, "-m", "edgesvit", "report", *runs], text=True,
                          capture_output=True)
    assert done.returncode == 0 and "not comparable: threads: 1 and 2" in done.stdout
    done = subprocess.run([sys.executable, "-m", "edgesvit", "doctor", "--json"], text=True,
                          capture_output=True)
    said = json.loads(done.stdout)
    assert {tool["name"] for tool in said["tools"]} > {"cc", "openocd", "probe-rs"}
    assert all(tool["path"] or tool["install"] for tool in said["tools"])
