"""The Joulescope adapter against a stand-in for its maker's package: the topics and the values."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest

from edgesvit.errors import Unreachable, UsageError
from edgesvit.measure.energy import integrate
from edgesvit.meters.address import open_meter
from edgesvit.meters.recording import Recording


class Driver:
    """Statistics ten times a second of its own time: 2 W, and their sum."""

    paths = ["u/js220/000415"]

    def __init__(self):
        self.published, self.callback = {}, None

    def device_paths(self):
        return self.paths

    def open(self, path):
        assert path in self.paths

    def close(self, path):
        self.callback = None

    def publish(self, topic, value):
        self.published[topic] = value
        if topic.endswith("/s/stats/ctrl") and value:
            threading.Thread(target=self.run, daemon=True).start()

    def subscribe(self, topic, flags, callback):
        assert (topic, flags) == ("u/js220/000415/s/stats/value", "pub")
        self.callback = callback

    def unsubscribe(self, topic, callback):
        self.callback = None

    def run(self):
        for index in range(1, 40):
            if self.callback is None:
                return
            self.callback("topic", {
                "time": {"samples": {"value": [(index - 1) * 100_000, index * 100_000]},
                         "sample_freq": {"value": 1_000_000}},
                "signals": {name: {"avg": {"value": value}} for name, value in
                            (("voltage", 4.0), ("current", 0.5), ("power", 2.0))},
                "accumulators": {"energy": {"value": 0.2 * index}}})
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", SimpleNamespace(Driver=Driver))


def test_the_accumulator_gives_the_energy():
    meter = open_meter("joulescope")
    recording = Recording(meter)
    recording.start()
    time.sleep(0.2)
    trace = recording.stop()
    meter.close()
    assert meter.about.kind == "js220" and meter.about.serial == "000415"
    begin, end = trace.samples.time_s[[0, -1]]
    assert integrate(trace.samples, begin, end).energy_j == pytest.approx(2.0 * (end - begin))


def test_none_two_and_no_package(monkeypatch):
    monkeypatch.setattr(Driver, "paths", [])
    with pytest.raises(Unreachable, match="0 instruments"):
        open_meter("joulescope")
    monkeypatch.setattr(Driver, "paths", ["u/js220/1", "u/js220/2"])
    with pytest.raises(Unreachable, match="2 instruments"):
        open_meter("joulescope")
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    with pytest.raises(UsageError, match="needs the package"):
        open_meter("joulescope")
