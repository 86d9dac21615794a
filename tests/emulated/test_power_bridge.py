"""The bridge's firmware on an emulated core, its chip simulated at its I2C registers."""

import time

import pytest

from edgesvit import targets
from edgesvit.boards.qemu_mcu import emulator
from edgesvit.errors import UsageError
from edgesvit.lower.power_bridge import boards, build_bridge
from edgesvit.measure.energy import integrate, trigger_windows
from edgesvit.meters.address import open_meter
from edgesvit.meters.recording import Recording
from tests.fakes.serial_boards import needs

pytestmark = pytest.mark.emulated
HIGH_W, LOW_W = 3.3 * 0.050, 3.3 * 0.010  # board_qemu_mps2_an386.c: each for 100 ms


@pytest.mark.parametrize(("chip", "error"), [("ina226", 0.002), ("ina228", 0.001)])
def test_a_known_current_comes_back(chip, error):
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    target = targets.load("qemu-mps2-an386")
    elf = build_bridge(target, int(chip[3:])).elf
    with emulator(target, elf) as (url, _):
        meter = open_meter(f"{chip}:{url}")
        recording = Recording(meter)
        recording.start()
        deadline = time.monotonic() + 60
        while recording.count < 400 and time.monotonic() < deadline:
            time.sleep(0.05)  # 400 samples are 0.84 s of the board's own time
        trace = recording.stop()
        meter.close()
    assert trace.fault is None and trace.about.emulated and trace.about.serial == "simulated"
    samples = trace.samples
    assert (samples.lost, samples.damaged) == (0, 0)
    assert samples.current_a.min() == pytest.approx(0.010, rel=error)
    assert samples.current_a.max() == pytest.approx(0.050, rel=error)
    windows = trigger_windows(samples)
    assert len(windows) >= 2
    for begin, end in windows:
        assert end - begin == pytest.approx(0.1, abs=2e-6)  # by the edges, not by the samples
    samples.energy_j = samples.energy_j if chip == "ina228" else None
    begin, end = windows[0][0], windows[-1][0]  # whole periods
    mean_w = integrate(samples, begin, end).energy_j / (end - begin)
    # The accumulator counts 78 uJ; samples of 2 ms see the edges of 100 ms to 2 %.
    assert mean_w == pytest.approx((HIGH_W + LOW_W) / 2, rel=0.03)


@pytest.mark.parametrize("name", boards())
def test_it_builds_for_every_board_that_has_a_file(name):
    needs("arm-none-eabi-gcc")
    built = build_bridge(targets.load(name))
    assert 1000 < built.sections["code"] < 16384


def test_other_boards_are_refused():
    with pytest.raises(UsageError, match="cannot be a power bridge"):
        build_bridge(targets.load("nucleo-h743zi"))
