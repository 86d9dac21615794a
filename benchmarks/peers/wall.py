"""Wall time on this machine: one core, every program in turn, again and again."""

import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgesvit.errors import EdgesvitError
from peers import eager, executorch_xnnpack, litert, onnx_runtime
from peers.layers import RATES, Firing, Layer
from peers.own import Host

# Name, the package that it needs, what prepares it.
PEERS = (
    (litert.NAME, "ai_edge_litert", litert.prepare),
    (onnx_runtime.NAME, "onnxruntime", onnx_runtime.prepare),
    (executorch_xnnpack.NAME_INT8, "executorch", executorch_xnnpack.prepare_int8),
    (executorch_xnnpack.NAME_FLOAT, "executorch", executorch_xnnpack.prepare_float),
    (eager.NAME_ALONE, "torch", eager.prepare_alone),
    (eager.NAME, "torch", eager.prepare),
)
DENSE = "own dense int8, layer with neurons"
IN_A_ROW = 3  # timed calls of one program before the next has its turn


@dataclass(frozen=True)
class Timed:
    """One program on one layer. `ratios` of its time to ours at 15 %, round by round."""

    layer: Layer
    name: str
    seconds: list[float]
    ratios: list[float]
    rate: float | None = None  # of ours: measured
    union: float | None = None

    @property
    def best(self) -> float:
        """The fastest round, seconds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median round, seconds."""
        return statistics.median(self.seconds)


def missing() -> list[str]:
    """One line for each peer whose package is not installed."""
    return [f"{name}: skipped, the package {package} is not installed"
            for name, package, _ in PEERS if importlib.util.find_spec(package) is None]


def ours_at(firing: Firing) -> str:
    """The name of our kernel's row."""
    return f"edgesvit {firing.rate} % {firing.source}"


REFERENCE = ours_at(Firing())


def measure(layer: Layer, rounds: int, note: Callable[[str], None]) -> list[Timed]:
    """Time everything on `layer`: ours at every firing rate, and the peers, which are dense."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    host = Host()
    programs, rates = _ours(host, layer)
    for name, package, prepare in PEERS:
        if importlib.util.find_spec(package):
            try:
                programs[name] = prepare(layer)
            except Exception as error:  # a peer that fails is no reason to lose the others
                note(f"{name} on {layer.name}: {type(error).__name__}: {error}")
    for run in programs.values():
        run()
    times = in_turn(programs, rounds)
    ours = times[REFERENCE]
    return [Timed(layer, name, seconds,
                  [t / o for t, o in zip(seconds, ours, strict=True)],
                  *rates.get(name, (None, None)))
            for name, seconds in times.items()]


def _ours(host: Host, layer: Layer) -> tuple[dict[str, Callable[[], object]], dict]:
    host.reset()
    programs, rates = {}, {}
    for source in ("lif", "bernoulli"):
        for rate in RATES:
            firing = Firing(rate, source)
            number = host.open(layer, firing)
            host.check("ours", number)
            name = ours_at(firing)
            programs[name] = lambda number=number: host.run("ours", number)
            rates[name] = host.rates(number)
            if name == REFERENCE:
                host.check("dense", number)
                programs[DENSE] = lambda number=number: host.run("dense", number)
    return programs, rates


def in_turn(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each program, a number a round: the best of some calls in a row."""
    if rounds < 1:
        raise EdgesvitError("needs at least one round")
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            run()  # brings its weights back into the caches
            times[name].append(min(_seconds(run) for _ in range(IN_A_ROW)))
    return times


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
