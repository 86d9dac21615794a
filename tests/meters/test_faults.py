"""What can go wrong with a meter: one clear line, exit code 4, and the samples so far are kept."""

import time
from types import SimpleNamespace

import pytest

from edgesvit.errors import Unreachable, UsageError
from edgesvit.meters import port
from edgesvit.meters.address import open_meter, split
from edgesvit.meters.detect import detect, the_only
from edgesvit.meters.recording import Recording
from tests.fakes import meters as fakes
from tests.fakes.waves import Wave

WAVE = Wave.constant(0.01)
KINDS = {"ppk2": (fakes.FakePpk2, "=3300", 20_000), "lpm01a": (fakes.FakeLpm01a, "", 200),
         "tc66c": (fakes.FakeTc66c, "", 8), "um25c": (fakes.FakeUm25c, "", 8),
         "ina228": (lambda wave: fakes.FakeBridge("ina228", wave), "", 200)}


@pytest.mark.parametrize("kind", KINDS)
def test_unplugged_in_mid_run(kind):
    """The recording ends with an error that says so; what was measured before is there."""
    make, suffix, after = KINDS[kind]
    with make(WAVE) as fake:
        fake.unplug_after = after
        meter = open_meter(f"{kind}:{fake.path}{suffix}")
        recording = Recording(meter)
        recording.start()
        deadline = time.monotonic() + 20
        while not recording.fault and time.monotonic() < deadline:
            time.sleep(0.01)
        trace = recording.stop()
        meter.close()
    assert isinstance(trace.fault, Unreachable) and trace.fault.exit_code == 4
    assert "the connection broke" in trace.fault.message and "\n" not in trace.fault.message
    assert len(trace.samples) >= after / 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fake", [fakes.Garbage, fakes.Silent])
def test_garbage_and_silence_are_no_meter(kind, fake, monkeypatch):
    monkeypatch.setattr(port, "SILENCE_S", 0.4)
    monkeypatch.setattr("edgesvit.meters.bridge.ANSWER_S", 0.5)
    with fake() as other:
        with pytest.raises(Unreachable) as caught:
            open_meter(f"{kind}:{other.path}{KINDS[kind][1]}")
    assert other.path in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_another_meter_than_was_named(kind):
    wrong = fakes.FakeUm25c if kind != "um25c" else fakes.FakeLpm01a
    with wrong(WAVE) as other:
        with pytest.raises(Unreachable, match="it says|silent"):
            open_meter(f"{kind}:{other.path}{KINDS[kind][1]}")


def test_a_bridge_with_another_chip_says_which():
    with fakes.FakeBridge("ina226", WAVE) as fake:
        with pytest.raises(Unreachable, match="carries an ina226") as caught:
            open_meter(f"ina228:{fake.path}")
    assert caught.value.hint == f"--meter ina226:{fake.path}"


def test_a_meter_that_falls_silent(monkeypatch):
    monkeypatch.setattr(port, "SILENCE_S", 0.5)
    with fakes.FakeBridge("ina226", WAVE) as fake:
        meter = open_meter(f"ina226:{fake.path}")
        recording = Recording(meter)
        recording.start()
        fake.running = False
        time.sleep(0.9)
        trace = recording.stop()
        meter.close()
    assert "silent for 0.5 s" in trace.fault.message and len(trace.samples)


def usb(fake, vid, pid):
    return SimpleNamespace(device=fake.path, vid=vid, pid=pid, serial_number="X", description="")


def test_meters_are_found_and_confirmed_by_what_they_answer():
    """A LPM01A has a TC66C's identity, a bridge tells its chip, another board does not answer."""
    with (fakes.FakePpk2(WAVE) as ppk2, fakes.FakeLpm01a(WAVE) as shield,
          fakes.FakeBridge("ina226", WAVE, serial="77") as bridge, fakes.Garbage() as board):
        ports = [usb(ppk2, 0x1915, 0xC00A), usb(shield, 0x0483, 0x5740),
                 usb(bridge, 0x0483, 0x374B), usb(board, 0x0483, 0x374E),
                 usb(board, 0x1234, 0x5678)]
        found = {meter.about.kind: meter for meter in detect(ports)}
        assert {kind: meter.address for kind, meter in found.items()} == {
            "ppk2": f"ppk2:{ppk2.path}=3300", "lpm01a": f"lpm01a:{shield.path}",
            "ina226": f"ina226:{bridge.path}"}
        assert found["ina226"].about.serial == "77"
        assert the_only(ports[2:]) == f"ina226:{bridge.path}"
        with pytest.raises(Unreachable, match="3 meters answer.*ina226") as caught:
            the_only(ports)
        assert caught.value.hint.startswith("choose one: --meter ")
        with pytest.raises(Unreachable, match="no meter answers"):
            the_only(ports[3:])


@pytest.mark.parametrize(("address", "says"), [
    ("volt:/dev/ttyACM0", "no meter is called 'volt'"), ("ina228", "at which port"),
    ("csv:", "which file"), ("", "no meter is called ''")])
def test_addresses_that_make_no_sense(address, says):
    with pytest.raises(UsageError, match=says):
        split(address)


@pytest.mark.parametrize("where", ["/dev/none", "/dev/none=300", "/dev/none@9000"])
def test_ppk2_needs_a_voltage(where):
    with pytest.raises(UsageError, match="voltage"):
        open_meter(f"ppk2:{where}")


def test_a_port_that_is_not_there():
    with pytest.raises(Unreachable, match="cannot open serial port /dev/none"):
        open_meter("ina228:/dev/none")
