"""Meters that are part of the board, read from trees and programs like theirs."""

import shutil
import subprocess

import pytest

from edgesvit.boards.process import lines
from edgesvit.boards.sampler import build_sampler
from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.meters import hwmon, pmic, tegrastats
from edgesvit.meters.on_board import OnBoard
from tests.fakes import boards

BUSY = ("sh", "-c", "i=0; while [ $i -lt 6 ]; do echo turn $i; sleep 0.1; i=$((i+1)); done")


def run(argv: list[str]) -> list[str]:
    return list(lines(argv, "board", 20, 20))


def sampled(meter: OnBoard, *program: str) -> list[str]:
    """The lines of `program` under the sampler."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    sampler = str(build_sampler("cc"))
    return list(lines([sampler, *meter.sampler, "--", *(program or BUSY)], "sampler", 30, 20))


def test_the_pi_5_pairs_its_rails_by_name(tmp_path):
    program = boards.pi5(tmp_path)
    meter = pmic.open_meter(str(program), run)
    assert meter.about.emulated and "12 rails" in meter.about.covers
    assert meter.about.settings["supply_v"] == pytest.approx(5.09066)
    said = sampled(meter)
    assert [line for line in said if line.startswith("turn")] == [f"turn {i}" for i in range(6)]
    samples = meter.samples(said)
    assert len(samples) >= 3 and samples.power_w == pytest.approx(boards.PI5_W, rel=1e-6)
    assert samples.rails_w["VDD_CORE"][0] == pytest.approx(6.22421 * 0.861733)
    assert not {"EXT5V", "BATT"} & set(samples.rails_w)


@pytest.mark.parametrize("says", ["", 'error=1 error_msg="Command not registered"',
                                  "VDD_CORE_A current(7)=nanA VDD_CORE_V volt(15)=nanV"])
def test_a_board_that_does_not_measure_itself(tmp_path, says):
    program = boards.script(tmp_path / "vcgencmd", f"echo '{says}'")
    with pytest.raises(Unreachable, match="tells no rail"):
        pmic.open_meter(str(program), run)


@pytest.mark.parametrize(("tree", "rails", "covers"), [
    (boards.orin_nano, {"VDD_IN": 4.761, "VDD_CPU_GPU_CV": 0.515, "VDD_SOC": 1.428}, "whole board"),
    (boards.agx_orin, {"VDD_GPU_SOC": 2.5, "VDD_CPU_CV": 1.0, "VIN_SYS_5V0": 3.0}, "the sum of"),
    (boards.nano_jetpack4, {"POM_5V_IN": 2.532, "POM_5V_GPU": 0.04, "POM_5V_CPU": 0.5},
     "whole board")])
def test_jetson_rails(tmp_path, tree, rails, covers):
    root = tree(tmp_path)
    meter = hwmon.open_meter(str(root), run)
    assert covers in meter.about.covers
    samples = meter.samples(sampled(meter))
    total = next((rails[name] for name in ("VDD_IN", "POM_5V_IN") if name in rails),
                 sum(rails.values()))
    assert set(samples.rails_w) == set(rails)
    assert samples.power_w == pytest.approx(total, abs=0.008 * 5)  # a count is 8 mA at 5 V


def test_a_rail_that_goes_away_is_damage_not_zero(tmp_path):
    root = boards.orin_nano(tmp_path)
    meter = hwmon.open_meter(str(root), run)
    current = next(root.rglob("curr1_input"))
    said = sampled(meter, "sh", "-c", f"sleep 0.2; rm {current}; sleep 0.2")
    samples = meter.samples(said)
    assert samples.damaged > 0 and samples.power_w.min() > 4


def test_no_sensor(tmp_path):
    with pytest.raises(Unreachable, match="no power rail"):
        hwmon.open_meter(str(tmp_path), run)
    with pytest.raises(Unreachable, match="prints no rail"):
        tegrastats.open_meter(str(boards.script(tmp_path / "none", "echo RAM 1/2MB")), run)


@pytest.mark.parametrize(("line", "total"), [
    (boards.TEGRASTATS_JP6, 4.761), (boards.TEGRASTATS_JP4, 2.532), (boards.TEGRASTATS_JP5, 6.03)])
def test_tegrastats(tmp_path, line, total):
    program = boards.script(tmp_path / "tegrastats",
                            f"while :; do echo '{line}'; sleep 0.05; done")
    meter = tegrastats.open_meter(str(program), run)
    samples = meter.samples(sampled(meter))
    assert len(samples) >= 5 and samples.power_w == pytest.approx(total)
    assert not {"RAM", "SWAP"} & set(samples.rails_w)


def test_the_sampler_passes_on_status_and_long_lines(tmp_path):
    root = boards.orin_nano(tmp_path)
    meter = hwmon.open_meter(str(root), run)
    said = sampled(meter, "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    assert max(map(len, said)) == 300000 and "end" in said
    with pytest.raises(EdgesvitError, match="gone wrong"):
        sampled(meter, "sh", "-c", "echo gone wrong >&2; exit 3")
    with pytest.raises(EdgesvitError, match="No such file"):
        sampled(meter, str(tmp_path / "missing"))
    usage = subprocess.run([build_sampler("cc"), "--period-ms", "5"], capture_output=True)
    assert usage.returncode == 1 and b"usage" in usage.stderr
