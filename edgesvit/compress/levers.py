"""Everything that a joint search may give up of a model, one lever a thing, in small steps."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from edgesvit.compress import channels, precision, tokens
from edgesvit.compress.channels import Weights
from edgesvit.compress.setting import Setting
from edgesvit.models.config import takes_events
from edgesvit.run_folder import ModelCard

KINDS = ("channels", "bits", "tokens", "depth", "time")
WIDTHS = (8, 6, 5, 4, 3, 2)
SHARES = (1.0, 0.875, 0.75, 0.625, 0.5)
CHANNEL_STEPS = 8  # a lever of channels gives up an eighth at a time, or a lane


class Lever(msgspec.Struct, frozen=True):
    """One thing that can be given up step by step; `levels` from what it is to the least."""

    kind: str  # of KINDS
    name: str
    levels: tuple[float, ...]
    layers: tuple[str, ...] = ()  # that share a width
    scales: tuple[float, ...] = ()  # of all thresholds, at each number of steps


def levers(card: ModelCard, weights: Weights, lanes: int, kinds: Sequence[str],
           groups: Sequence[str] = ()) -> list[Lever]:
    """The levers of `kinds`, in the model's order.

    Kept channels fill `lanes`; `groups` are the kinds of channel groups that may be pruned, () for
    all.
    """
    found = {"channels": lambda: _channels(card, lanes, groups),
             "bits": lambda: _bits(card, weights), "tokens": lambda: _tokens(card),
             "depth": lambda: _depth(card), "time": lambda: _time(card)}
    return [lever for kind in KINDS if kind in kinds for lever in found[kind]()
            if len(lever.levels) > 1]


def setting_of(every: Sequence[Lever], levels: Mapping[int, int]) -> Setting:
    """The setting with lever i at its level levels[i]; those not named stay whole."""
    parts: dict[str, dict] = {"kept": {}, "bits": {}, "tokens": {}}
    steps, scale = None, 1.0
    for index, level in levels.items():
        lever = every[index]
        value = lever.levels[level]
        if level == 0:
            continue
        if lever.kind == "channels":
            parts["kept"][lever.name] = int(value)
        elif lever.kind == "bits":
            parts["bits"] |= dict.fromkeys(lever.layers, int(value))
        elif lever.kind in ("tokens", "depth"):
            parts["tokens"][lever.name] = min(value, parts["tokens"].get(lever.name, 1.0))
        else:
            steps = int(value)
            scale = lever.scales[level] if lever.scales else 1.0
    return Setting(**parts, time_steps=steps, threshold_scale=scale)


def threshold_scale(before: int, after: int) -> float:
    """What thresholds may be multiplied by when `before` steps become `after`.

    A constant current x brings a membrane to x (1 - 2^-t) in t steps. Halfway, as powers go,
    between thresholds as they are, for spikes of the first steps, and thresholds that the last
    step reaches as it did.
    """
    return ((1 - 2.0**-after) / (1 - 2.0**-before)) ** 0.5


def _channels(card: ModelCard, lanes: int, kinds: Sequence[str]) -> Iterator[Lever]:
    for group in channels.groups(card.config):
        if kinds and group.kind not in kinds:
            continue
        step = channels.lane_step(group, lanes)
        rates = np.arange(CHANNEL_STEPS) / CHANNEL_STEPS
        counts = [channels.kept_count(group.size, rate, step) for rate in rates]
        yield Lever("channels", group.name, tuple(dict.fromkeys(map(float, counts))))


def _bits(card: ModelCard, weights: Weights) -> Iterator[Lever]:
    names = precision.layers(card.config, weights)
    units = list(precision.units(names).items())
    for unit, layers in units[1:-1]:  # the ends are small and matter most
        now = max(card.layer_bits.get(layer, card.weight_bits) for layer in layers)
        yield Lever("bits", unit, (float(now), *(float(bits) for bits in WIDTHS if bits < now)),
                    layers)


def _tokens(card: ModelCard) -> Iterator[Lever]:
    for block, now in _shares(card).items():
        yield Lever("tokens", block, (now, *(share for share in SHARES if share < now)))


def _depth(card: ModelCard) -> Iterator[Lever]:
    """A block that no token passes is in no program: neither its work nor its weights.

    The first one stays: without any it would be no transformer.
    """
    for block, now in list(_shares(card).items())[1:]:
        yield Lever("depth", block, (now, 0.0) if now else (now,))


def _shares(card: ModelCard) -> dict[str, float]:
    return {} if takes_events(card.config) else tokens.shares_of(card.config)


def _time(card: ModelCard) -> Iterator[Lever]:
    steps = getattr(card.config, "time_steps", 1)
    if not takes_events(card.config):
        yield Lever("time", "steps", tuple(map(float, range(steps, 0, -1))))
