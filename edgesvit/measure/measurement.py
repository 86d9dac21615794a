"""A measurement as it is stored, and whether two of them can be compared."""

import statistics
from collections.abc import Sequence

import msgspec
import numpy as np

from edgesvit import __version__
from edgesvit.measure.energy import Energy
from edgesvit.measure.result import Samples
from edgesvit.measure.windows import Window
from edgesvit.meters.samples import About

SCHEMA_VERSION = 1
WARMER_C = 10.0  # two results taken farther apart in temperature are not alike


class Latency(msgspec.Struct, frozen=True):
    """Microseconds of an inference. `median` is of the windows' means; minimum, maximum and p90 of
    all samples, each the mean of `sample_inferences` in a row. `windows` holds every sample."""

    median: float
    minimum: float
    maximum: float
    p90: float
    sample_inferences: int
    window_means: list[float]
    windows: list[list[float]]


class Analytical(msgspec.Struct, frozen=True, kw_only=True):
    """Millijoules of an inference by counting 45 nm arithmetic: an estimate, whatever the board."""

    label: str = "estimated"
    field_mj: float
    bit_aware_mj: float
    images: int


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `edgesvit measure`. `label` is that of latency and instructions; the energy has
    its own: a meter can be emulated where the board is not."""

    kind: str = "measure"
    schema_version: int = SCHEMA_VERSION
    tool_version: str = __version__
    target: str
    title: str
    label: str
    runtime: str = "native"
    model: str
    program_crc32: str
    executable_sha256: str
    threads: int
    images: int
    logits_equal: int
    plan: dict[str, float]
    inferences: list[int]  # of each window
    latency_us: Latency | None
    instructions_per_inference: Samples | None
    layers: list[dict] = []  # as measure/layers.py has them, where they were asked for
    energy: Energy | None
    meter: About | None
    analytical: Analytical
    trace: str = ""  # file with the meter's samples
    environment: dict[str, object]
    warnings: list[str] = []


def latency(windows: Sequence[Window]) -> Latency | None:
    """Summarise; None where the clock is an emulator's."""
    timed = [window for window in windows if window.seconds is not None]
    if not timed:
        return None
    means = [1e6 * window.seconds / window.inferences for window in timed]
    samples = [window.sample_us or [mean] for window, mean in zip(timed, means, strict=True)]
    all_us = np.concatenate(samples)
    return Latency(statistics.median(means), float(all_us.min()), float(all_us.max()),
                   float(np.percentile(all_us, 90)), timed[0].sample_inferences, means, samples)


def differences(a: dict, b: dict) -> list[str]:
    """Why two stored measurements of one target are not comparable; empty when they are."""
    said = [f"{name}: {_short(a.get(name))} and {_short(b.get(name))}"
            for name in ("target", "label", "threads") if a.get(name) != b.get(name)]
    ours, theirs = ((r.get("environment") or {}).get("before") or {} for r in (a, b))
    said += [f"{name}: {_short(ours.get(name))} and {_short(theirs.get(name))}"
             for name in ("kernel", "governor", "max_khz", "power_mode", "radio")
             if ours.get(name) != theirs.get(name)]
    heat = [place.get("temperature_c") for place in (ours, theirs)]
    if None not in heat and abs(heat[0] - heat[1]) > WARMER_C:
        said.append(f"temperature: {heat[0]:.0f} and {heat[1]:.0f} C")
    for result in (a, b):
        after = (result.get("environment") or {}).get("after") or {}
        if after.get("throttled") not in (None, "0x0"):
            said.append(f"a board that was throttled: {after['throttled']}")
    meters = [result.get("meter") or {} for result in (a, b)]
    if all(meters):
        said += [f"meter {name}: {_short(meters[0].get(name))} and {_short(meters[1].get(name))}"
                 for name in ("kind", "serial", "covers", "settings")
                 if meters[0].get(name) != meters[1].get(name)]
        labels = [(result.get("energy") or {}).get("label") for result in (a, b)]
        if labels[0] != labels[1]:
            said.append(f"energy: {labels[0]} and {labels[1]}")
    return list(dict.fromkeys(said))


def _short(value: object) -> str:
    return "unknown" if value is None or value == "" else str(value)
