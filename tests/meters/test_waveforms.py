"""A known current through every serial meter comes back as its energy."""

import time

import numpy as np
import pytest

from edgesvit.measure.energy import fit_clock, integrate, trigger_windows
from edgesvit.meters.address import open_meter
from edgesvit.meters.recording import Recording, Trace
from tests.fakes import meters as fakes
from tests.fakes.waves import VOLTS, Wave

SQUARE = Wave.square(0.001, 0.021, 0.001)  # 1 kHz


def record(address: str, seconds: float) -> Trace:
    meter = open_meter(address)
    try:
        recording = Recording(meter)
        recording.start()
        time.sleep(seconds)
        return recording.stop()
    finally:
        meter.close()


def error_of(trace: Trace, wave: Wave, channels: float = 1.0) -> float:
    """The relative error of the energy over all of the trace, on the meter's own clock."""
    assert trace.fault is None
    begin, end = trace.samples.time_s[[0, -1]]
    true = wave.energy_j(begin, end) * channels
    return abs(integrate(trace.samples, begin, end).energy_j / true - 1)


@pytest.mark.parametrize("wave", [
    SQUARE, Wave.constant(1e-6), Wave.constant(1.0), Wave.ramp(1e-4, 0.05),
    Wave.steps((1e-6, 1e-3, 0.2, 2e-5), 0.1)], ids=["square", "1uA", "1A", "ramp", "steps"])
def test_ppk2(wave):
    with fakes.FakePpk2(wave) as fake:
        trace = record(f"ppk2:{fake.path}=3300", 0.45)
    assert error_of(trace, wave) < 0.005
    assert trace.samples.lost == 0 and len(trace.samples) > 10_000
    assert trace.about.emulated and trace.about.settings["millivolts"] == 3300


def test_ppk2_supplies_only_when_it_is_told(tmp_path):
    with fakes.FakePpk2(Wave.constant(0.01)) as fake:
        open_meter(f"ppk2:{fake.path}@3300").close()
        assert {command[0] for command in fake.commands} == {0x07, 0x19}  # asked, not switched
        record(f"ppk2:{fake.path}@3300", 0.02)
        assert [b"\x11\x02", b"\x0d\x0c\xe4", b"\x0c\x01"] == [
            command for command in fake.commands if command[0] in (0x11, 0x0D, 0x0C)]


def test_ppk2_counts_the_samples_that_were_lost():
    lost = [*range(3000, 3020), *range(5000, 5007), 9000]
    with fakes.FakePpk2(Wave.constant(0.01), drop=lost) as fake:
        trace = record(f"ppk2:{fake.path}=3300", 0.25)
    assert trace.samples.lost == len(lost)
    assert len(trace.samples.gaps()) == 2  # one sample less is no gap
    assert error_of(trace, Wave.constant(0.01)) < 0.005


def test_ppk2_finds_its_place_again_after_a_lost_byte():
    with fakes.FakePpk2(Wave.constant(0.01), drop_bytes=[4000]) as fake:
        trace = record(f"ppk2:{fake.path}=3300", 0.25)
    assert error_of(trace, Wave.constant(0.01)) < 0.02
    assert np.median(trace.samples.current_a[-1000:]) == pytest.approx(0.01, rel=0.01)


def test_ppk2_trigger_marks_the_window():
    wave = Wave.steps((0.001, 0.1, 0.001), 0.1)
    with fakes.FakePpk2(wave) as fake:
        fake.trigger = lambda t: 0.1 <= t < 0.2
        samples = record(f"ppk2:{fake.path}=3300", 1.5).samples  # a busy machine sends late
    [(begin, end)] = trigger_windows(samples)
    assert integrate(samples, begin, end).energy_j == pytest.approx(VOLTS * 0.1 * 0.1, rel=0.005)


@pytest.mark.parametrize("wave", [SQUARE, Wave.ramp(1e-4, 0.01), Wave.constant(2e-6),
                                  Wave.steps((1e-4, 0.05, 0.001), 0.1)],
                         ids=["square", "ramp", "2uA", "steps"])
def test_lpm01a(wave):
    with fakes.FakeLpm01a(wave) as fake:
        trace = record(f"lpm01a:{fake.path}", 0.5)
        assert "output energy" in fake.commands and "pwr off" not in fake.commands
    assert error_of(trace, wave) < 0.005
    assert trace.about.serial == "004A0042" and trace.samples.damaged == 0


def test_lpm01a_time_stamps_tell_what_was_lost():
    with fakes.FakeLpm01a(Wave.constant(0.01), skip=range(200, 300)) as fake:
        trace = record(f"lpm01a:{fake.path}", 1.3)
    assert trace.samples.lost == 100


@pytest.mark.parametrize("chip", ["ina219", "ina226", "ina228", "ina3221"])
@pytest.mark.parametrize("wave", [Wave.square(0.1, 0.4, 0.05), Wave.ramp(0.05, 0.3)],
                         ids=["square", "ramp"])
def test_bridge(chip, wave):
    with fakes.FakeBridge(chip, wave) as fake:
        trace = record(f"{chip}:{fake.path}", 0.45)
    channels = 1 + 1 / 2 + 1 / 3 if chip == "ina3221" else 1
    # Steps of voltage and current: the chip's own resolution.
    limit = {"ina219": 0.01, "ina3221": 0.015}.get(chip, 0.005)
    assert error_of(trace, wave, channels) < limit
    assert set(trace.samples.rails_w) == ({"ch1", "ch2", "ch3"} if chip == "ina3221" else set())


def test_ina228_accumulates_what_its_samples_miss():
    """Short conversions of a 1 kHz square always fall on the same half; the accumulator sees
    both."""
    with fakes.FakeBridge("ina228", SQUARE) as fake:
        fake.conversion_s = 0.00014
        trace = record(f"ina228:{fake.path}", 0.3)
    assert error_of(trace, SQUARE) < 0.005
    trace.samples.energy_j = None
    assert error_of(trace, SQUARE) > 0.5


def test_bridge_lost_and_damaged_lines_are_counted():
    with fakes.FakeBridge("ina226", Wave.constant(0.2), lose=[10, 11, 12], spoil=[40, 60]) as fake:
        fake.start_us = 2**32 - 100_000  # its microseconds wrap
        trace = record(f"ina226:{fake.path}", 0.3)
    assert (trace.samples.lost, trace.samples.damaged) == (5, 2)
    assert np.all(np.diff(trace.samples.time_s) > 0)
    assert len(trace.samples.gaps()) == 0 and trace.samples.time_s[-1] > 2**32 * 1e-6


def test_tc66c_and_um25c():
    wave = Wave.constant(1.2345)
    for kind, fake in (("tc66c", fakes.FakeTc66c(wave, spoil=[3])),
                       ("um25c", fakes.FakeUm25c(wave, spoil=[3]))):
        with fake:
            trace = record(f"{kind}:{fake.path}", 0.6)
        assert trace.samples.damaged == 1 and len(trace.samples) >= 3
        assert error_of(trace, wave) < 0.005


def test_the_meters_clock_is_matched_to_ours():
    with fakes.FakeBridge("ina226", Wave.constant(0.1)) as fake:
        trace = record(f"ina226:{fake.path}", 1.5)
        first_s = fake._since_s
    clock = fit_clock(trace.arrivals)
    assert clock.ours(trace.samples.time_s[0]) == pytest.approx(first_s, abs=0.1)
    assert abs(clock.skew_ppm) < 50_000
