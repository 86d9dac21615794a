"""All levers for one board: channels, widths, tokens and time steps chosen together.

A search of our own. Every lever is judged alone first, at each of its levels. Then, from the whole
model on, the move is made that brings the most of what the board lacks per point of accuracy it is
expected to cost, each one verified with all others in place, until the board's limits are met. What
a setting takes is counted on its program: bytes by memory region, instructions by the core's
prices. Deterministic: equal models, images and limits give equal settings.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from edgesvit.compress import channels, precision
from edgesvit.compress.judge import Judge, Verdict
from edgesvit.compress.prunable import Infeasible
from edgesvit.compress.setting import Setting
from edgesvit.cost import instructions, memory
from edgesvit.cost.operations import work
from edgesvit.profiles import Profile
from edgesvit.program.file import to_bytes
from edgesvit.targets import Target

Note = Callable[[str], None]
LEVERS = ("channels", "bits", "tokens", "time")
WIDTHS = (8, 6, 5, 4, 3, 2)
SHARES = (1.0, 0.875, 0.75, 0.625, 0.5)
CHANNEL_STEPS = 8  # a lever of channels gives up an eighth at a time, or a lane
TRACED = 2  # images whose firing rates stand for all in predictions of instructions


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`max_drop` in points on the search images.

    `save_memory` and `save_instructions` are percent of the program's bytes and of an inference's
    instructions on the target's core: limits beside those of target and profile, 0 for none.
    `groups` are the kinds of channel groups that may be pruned, () for all but residual streams.
    """

    max_drop: float
    save_memory: float = 0.0
    save_instructions: float = 0.0
    levers: tuple[str, ...] = LEVERS
    groups: tuple[str, ...] = ()


class Lever(msgspec.Struct, frozen=True):
    """One thing that can be given up step by step; `levels` from the whole to the least."""

    kind: str  # of LEVERS
    name: str
    levels: tuple[float, ...]
    layers: tuple[str, ...] = ()  # that share a width


class Step(msgspec.Struct, frozen=True):
    """A setting on the way: what it takes of each limit, and how right it is."""

    move: str
    setting: Setting
    used: dict[str, float]
    verdict: Verdict


class Found(msgspec.Struct, frozen=True):
    """Where a search ended. `unmet` names the limits that are still exceeded, none when it fits."""

    steps: tuple[Step, ...]
    limits: dict[str, float]
    unmet: tuple[str, ...]

    @property
    def best(self) -> Step:
        return self.steps[-1]


class Costs:
    """What settings of one model take on a target, by the name of the limit."""

    def __init__(self, judge: Judge, target: Target, profile: Profile, options: Options):
        self.judge, self.target = judge, target
        program = judge.program(Setting())
        images = judge.images()[:TRACED]
        self.work = {row.output: row for row in work(program, images)}
        self.limits: dict[str, float] = {region.name: region.bytes for region in target.memory}
        for use in ("weights", "arena"):
            if (budget := getattr(profile, f"{use}_bytes")) is not None:
                self.limits[f"profile's {use}"] = budget
        if options.save_memory:
            self.limits["program"] = (1 - options.save_memory / 100) * len(to_bytes(program))
        if options.save_instructions:
            counted = instructions.predict(program, self.work, target)
            self.limits["instructions"] = (1 - options.save_instructions / 100) * counted
        self.used = lru_cache(4096)(self._used_by_key)

    def __call__(self, setting: Setting) -> dict[str, float]:
        return self.used(setting.key())

    def _used_by_key(self, key: str) -> dict[str, float]:
        program = self.judge.program(msgspec.json.decode(key, type=Setting))
        program_bytes = len(to_bytes(program))
        bytes_by_use = memory.estimate(program, program_bytes, self.target)
        used = {region.name: sum(size for use, size in bytes_by_use.items()
                                 if self.target.region_for(use) is region)
                for region in self.target.memory}
        used |= {f"profile's {use}": bytes_by_use[use] for use in ("weights", "arena")
                 if f"profile's {use}" in self.limits}
        if "program" in self.limits:
            used["program"] = program_bytes
        if "instructions" in self.limits:
            used["instructions"] = instructions.predict(program, self.work, self.target)
        return used

    def excess(self, used: Mapping[str, float]) -> float:
        """How far the limits are exceeded: the sum of the logarithms, 0 when all are met."""
        return sum(max(0.0, math.log(max(size, 1) / self.limits[name]))
                   for name, size in used.items())

    def unmet(self, used: Mapping[str, float]) -> tuple[str, ...]:
        return tuple(name for name, size in used.items() if size > self.limits[name])


def levers(judge: Judge, target: Target, options: Options) -> list[Lever]:
    """Everything that may be given up, in the model's order."""
    found = {"channels": _channel_levers, "bits": _bit_levers, "tokens": _token_levers,
             "time": _time_levers}
    return [lever for kind in LEVERS if kind in options.levers
            for lever in found[kind](judge, target, options) if len(lever.levels) > 1]


def search(judge: Judge, target: Target, profile: Profile, options: Options,
           note: Note = lambda text: None) -> Found:
    """Give up what costs least until `target` and `profile` are satisfied."""
    return Search(judge, target, profile, options, note).run()


class Search:
    """One search: costs, the losses of each lever alone, and the steps made."""

    def __init__(self, judge: Judge, target: Target, profile: Profile, options: Options,
                 note: Note):
        self.judge, self.options, self.note = judge, options, note
        self.costs = Costs(judge, target, profile, options)
        self.levers = levers(judge, target, options)
        self.floor = judge.whole.accuracy - options.max_drop
        self.noise = 50 / judge.whole.images  # half an image, in points

    def run(self) -> Found:
        whole = Setting()
        steps = [Step("whole model", whole, self.costs(whole), self.judge.whole)]
        if self.costs.excess(steps[0].used):
            losses = self._study()
            levels = dict.fromkeys(range(len(self.levers)), 0)
            frozen: set[int] = set()
            while self.costs.excess(steps[-1].used):
                lever = self._cheapest(levels, frozen, losses, steps[-1])
                if lever is None:
                    break
                step = self._step(levels | {lever: levels[lever] + 1}, self.levers[lever])
                if step.verdict.accuracy < self.floor:
                    frozen.add(lever)
                    continue
                levels[lever] += 1
                steps.append(step)
                self.note(f"{step.move}: {step.verdict.accuracy:.2f} %, {self._state(step)}")
        return Found(tuple(steps), self.costs.limits, self.costs.unmet(steps[-1].used))

    def setting(self, levels: Mapping[int, int]) -> Setting:
        """The setting with lever i at its level levels[i]."""
        parts: dict[str, dict] = {"kept": {}, "bits": {}, "tokens": {}}
        steps = None
        for index, level in levels.items():
            lever = self.levers[index]
            value = lever.levels[level]
            if level == 0:
                continue
            if lever.kind == "channels":
                parts["kept"][lever.name] = int(value)
            elif lever.kind == "bits":
                parts["bits"] |= dict.fromkeys(lever.layers, int(value))
            elif lever.kind == "tokens":
                parts["tokens"][lever.name] = value
            else:
                steps = int(value)
        return Setting(**parts, time_steps=steps)

    def _study(self) -> dict[tuple[int, int], float]:
        """Points lost by every level of every lever alone, by (lever, level)."""
        asked = [(i, level) for i, lever in enumerate(self.levers)
                 for level in range(1, len(lever.levels))]
        self.note(f"study: {len(self.levers)} levers, {len(asked)} settings")
        verdicts = self.judge.many([self.setting({i: level}) for i, level in asked])
        whole = self.judge.whole.accuracy
        return {key: whole - verdict.accuracy
                for key, verdict in zip(asked, verdicts, strict=True)}

    def _cheapest(self, levels: Mapping[int, int], frozen: set[int],
                  losses: Mapping[tuple[int, int], float], now: Step) -> int | None:
        """The lever whose next level brings most per point; None when none brings anything."""
        excess = self.costs.excess(now.used)
        worths = []
        for index, lever in enumerate(self.levers):
            level = levels[index] + 1
            if index in frozen or level >= len(lever.levels):
                continue
            won = excess - self.costs.excess(self.costs(self.setting(levels | {index: level})))
            lost = losses[index, level] - losses.get((index, level - 1), 0.0)
            if won > 0:
                worths.append((won / max(lost, self.noise), -index))
        return -max(worths)[1] if worths else None

    def _step(self, levels: Mapping[int, int], lever: Lever) -> Step:
        setting = self.setting(levels)
        index = self.levers.index(lever)
        return Step(f"{lever.kind} {lever.name} {lever.levels[levels[index]]:g}", setting,
                    self.costs(setting), self.judge(setting))

    def _state(self, step: Step) -> str:
        lacking = self.costs.unmet(step.used)
        return ", ".join(f"{name} {step.used[name]:,.0f} of {self.costs.limits[name]:,.0f}"
                         for name in lacking) or "all limits met"


def require_found(found: Found, target: Target, options: Options) -> None:
    """Raise Infeasible with the best point reached, the binding limit and what to relax."""
    if not found.unmet:
        return
    best = found.best
    whole = found.steps[0].verdict.accuracy
    lacking = "; ".join(f"{name} {best.used[name]:,.0f} of {found.limits[name]:,.0f}"
                        for name in found.unmet)
    raise Infeasible(
        f"INFEASIBLE: {target.name} within {options.max_drop:g} points: best reached after "
        f"{len(found.steps) - 1} moves is {best.verdict.accuracy:.2f} % (whole {whole:.2f} %) with "
        f"{lacking}",
        "a larger --max-drop, with --fine-tune 10 to win it back, or more --levers than "
        f"{','.join(options.levers)}", best.setting)


def frontier(points: Sequence[tuple[Setting, Mapping[str, float], Verdict]], cost: str
             ) -> Iterator[int]:
    """Indices of the points that none beats in both `cost` and accuracy, dearest first."""
    best = -math.inf
    order = sorted(range(len(points)), key=lambda i: (points[i][1][cost], -points[i][2].accuracy))
    kept = []
    for i in order:
        if points[i][2].accuracy > best:
            best = points[i][2].accuracy
            kept.append(i)
    return reversed(kept)


def _channel_levers(judge: Judge, target: Target, options: Options) -> Iterator[Lever]:
    for group in channels.groups(judge.card.config):
        if options.groups and group.kind not in options.groups:
            continue
        if not options.groups and group.kind == "stream":
            continue
        step = channels.lane_step(group, target.lanes)
        rates = np.arange(CHANNEL_STEPS) / CHANNEL_STEPS
        counts = [channels.kept_count(group.size, rate, step) for rate in rates]
        yield Lever("channels", group.name, tuple(dict.fromkeys(map(float, counts))))


def _bit_levers(judge: Judge, target: Target, options: Options) -> Iterator[Lever]:
    names = precision.layers(judge.card.config, judge.weights)
    units = list(precision.units(names).items())
    for unit, layers in units[1:-1]:  # the ends are small and matter most
        yield Lever("bits", unit, tuple(map(float, WIDTHS)), layers)


def _token_levers(judge: Judge, target: Target, options: Options) -> Iterator[Lever]:
    from edgesvit.compress import tokens

    for block in tokens.shares_of(judge.card.config):
        yield Lever("tokens", block, SHARES)


def _time_levers(judge: Judge, target: Target, options: Options) -> Iterator[Lever]:
    from edgesvit.program.build import takes_events

    steps = getattr(judge.card.config, "time_steps", 1)
    if not takes_events(judge.card.config):
        yield Lever("time", "steps", tuple(map(float, range(steps, 0, -1))))
