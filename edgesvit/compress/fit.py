"""All levers for one board or several: channels, widths, tokens and time steps chosen together.

A search of our own. Every lever is judged alone first, at each of its levels. Then, from the whole
model on, the move is made that brings the most of what the boards lack per point of accuracy it is
expected to cost, each one verified with all others in place, until the limits are met. Widths of
weights, which early moves narrowed for bytes that later ones saved anyway, are then chosen once
more with all else as it is. What a setting takes is told by its program: bytes by memory region,
instructions by the core's prices. Prices are for searching: where they say that the limits of
instructions are met, the setting is measured, and the search goes on if it is not so.
Deterministic: equal models, images and limits give equal settings. With training in between,
compress.shrink runs it several times, each time to a part of the way.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import numpy as np
from msgspec.structs import replace

from edgesvit.compress import levers
from edgesvit.compress.judge import Judge, Verdict
from edgesvit.compress.levers import KINDS, Lever, setting_of
from edgesvit.compress.limits import Costs, Limits, Used, instruction_names
from edgesvit.compress.prunable import Infeasible
from edgesvit.compress.setting import WHOLE, Setting
from edgesvit.compress.watch import Watch, quiet
from edgesvit.profiles import Profile
from edgesvit.targets import Target

Note = Callable[[str], None]
Losses = Mapping[tuple[int, int], float]  # points by lever and level
AHEAD = {"channels": 2, "bits": 3, "tokens": 5, "depth": 1, "time": 1}  # levels a move may go


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`max_drop` in points on the search images.

    `save_memory` and `save_instructions` are percent of the program's bytes and of an inference's
    instructions on each target's core: limits beside those of target and profile, 0 for none.
    `groups` are the kinds of channel groups that may be pruned, () for all.
    """

    max_drop: float
    save_memory: float = 0.0
    save_instructions: float = 0.0
    levers: tuple[str, ...] = KINDS
    groups: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """A setting on the way: what it takes of each limit, and how right it is."""

    move: str
    setting: Setting
    used: Used
    verdict: Verdict


class Found(msgspec.Struct, frozen=True):
    """Where a search ended; `judged` has every setting that it asked about."""

    steps: tuple[Step, ...]
    limits: Limits
    judged: tuple[Step, ...] = ()

    @property
    def best(self) -> Step:
        return self.steps[-1]

    @property
    def unmet(self) -> tuple[str, ...]:
        """The limits that are still exceeded, none when it fits."""
        return self.limits.unmet(self.best.used)


class Interrupted(KeyboardInterrupt):
    """The search was interrupted; `found` is how far it was."""

    def __init__(self, found: Found):
        super().__init__("interrupted")
        self.found = found


def search(judge: Judge, targets: Sequence[Target], profile: Profile, options: Options,
           note: Note = lambda text: None, watch: Watch = quiet) -> Found:
    """Give up what costs least until `targets` and `profile` are satisfied.

    Raises Interrupted on a KeyboardInterrupt.
    """
    costs = Costs(judge, targets, note)
    limits = costs.limits(profile, options.save_memory, options.save_instructions)
    floor = judge.whole.accuracy - options.max_drop
    return Search(judge, costs, limits, options, note, watch).run(floor=floor)


class Search:
    """One search from the judge's model: the losses of each lever alone, and the steps made."""

    def __init__(self, judge: Judge, costs: Costs, limits: Limits, options: Options,
                 note: Note = lambda text: None, watch: Watch = quiet):
        self.judge, self.costs, self.limits, self.note, self.watch = (
            judge, costs, limits, note, watch)
        lanes = max(target.lanes for target in costs.targets)
        self.levers = levers.levers(judge.card, judge.weights, lanes, options.levers,
                                    options.groups)
        self.levers = [self._scaled(lever) for lever in self.levers]
        self.noise = 50 / judge.whole.images  # half an image, in points
        self.priced = any(name in limits.of for name in instruction_names(costs.targets).values())
        self.steps = [self._step("whole model", WHOLE)]

    def run(self, floor: float = 0.0) -> Found:
        """Move until nothing is lacking, never below the accuracy `floor` in percent."""
        try:
            if self._lacking(self.steps):
                self._run(floor)
        except KeyboardInterrupt:
            raise Interrupted(self._found()) from None
        return self._found()

    def _run(self, floor: float) -> None:
        losses = self._study()
        levels = self._moved(self.steps, self._nothing(), self._nothing(), losses, floor)
        if not self._lacking(self.steps):
            self._widths_again(levels, losses, floor)
        self._large_first(losses, floor)

    def _widths_again(self, levels: dict[int, int], losses: Losses, floor: float) -> None:
        widths = [i for i, lever in enumerate(self.levers) if lever.kind == "bits"]
        if not any(levels[i] for i in widths):
            return
        levels |= dict.fromkeys(widths, 0)
        again = [self._step("widths as they were", setting_of(self.levers, levels))]
        self._moved(again, levels, widths, losses, floor)
        self._take_better(again, "widths chosen once more")

    def _large_first(self, losses: Losses, floor: float) -> None:
        if self.priced:
            self.costs.measure(WHOLE)
        steps = self.steps[:1]
        levels = self._moved(steps, self._nothing(), self._nothing(), losses, floor, beyond=True)
        if self._lacking(steps):
            return
        self._take_better(steps, "large moves first")
        levels = self._given_back(steps, levels, losses)
        self._moved(steps, levels, self._nothing(), losses, floor)  # measured, it may be too much
        self._take_better(steps, "large moves first, then given back")

    def _take_better(self, steps: Sequence[Step], name: str) -> None:
        """Where other steps led, if the limits are met only there or at a higher accuracy."""
        better = steps[-1].verdict.accuracy > self.steps[-1].verdict.accuracy
        if not self._lacking(steps) and (better or self._lacking(self.steps)):
            self.steps.append(replace(steps[-1], move=name))

    def _nothing(self) -> dict[int, int]:
        """The levels at which no lever has given up anything."""
        return dict.fromkeys(range(len(self.levers)), 0)

    def _moved(self, steps: list[Step], levels: dict[int, int], allowed: Collection[int],
               losses: Losses, floor: float, beyond: bool = False) -> dict[int, int]:
        """The levels after the moves of the levers `allowed` that go on from the last of `steps`.

        Every step is appended there at once. What moves save `beyond` the limits may count too.
        """
        ends = {i: len(lever.levels) if i in allowed else 0
                for i, lever in enumerate(self.levers)}
        most = self._lacking(steps)
        while not self._met(steps):
            move = self._cheapest(levels, ends, losses, steps[-1].used, beyond)
            if move is None:
                break
            lower = levels | dict([move])
            step = self._step(self._name(*move), setting_of(self.levers, lower))
            if step.verdict.accuracy < floor:
                ends[move[0]] = move[1]  # this far and no further
                continue
            levels = lower
            steps.append(step)
            told = self.limits.told(step.used) or "all limits met"
            self.note(f"{step.move}: {step.verdict.accuracy:.2f} %, {told}")
            lacking = self._lacking(steps)
            most = max(most, lacking)  # measured, more may be lacking than in the beginning
            self.watch("moves", 1 - lacking / most if most else 1.0)
        return levels

    def _given_back(self, steps: list[Step], levels: dict[int, int], losses: Losses
                    ) -> dict[int, int]:
        """The levels after what the limits leave room for is taken back, costliest first.

        What does not make the model more accurate stays given up.
        """
        refused: set[tuple[int, int]] = set()
        while backs := [(losses[i, now] - losses.get((i, back), 0.0), -i, -back)
                        for i, now in levels.items() for back in range(now)
                        if (i, back) not in refused and not self.limits.unmet(
                            self.costs(setting_of(self.levers, {**levels, i: back})))]:
            _, index, back = (-part for part in max(backs))
            higher = levels | {index: back}
            step = self._step(f"back to {self._name(index, back)}",
                              setting_of(self.levers, higher))
            if step.verdict.accuracy <= steps[-1].verdict.accuracy:
                refused.add((index, back))
                continue
            levels = higher
            steps.append(step)
            self.note(f"{step.move}: {step.verdict.accuracy:.2f} %")
        return levels

    def _met(self, steps: list[Step]) -> bool:
        """Whether nothing is lacking, as measured; then `steps` end with what was measured."""
        if self._lacking(steps) or not self.priced:
            return not self._lacking(steps)
        last = steps[-1]
        self.costs.measure(last.setting)
        steps[-1] = replace(last, used=self.costs(last.setting))
        if lacking := self.limits.told(steps[-1].used):
            self.note(f"measured: {lacking}")
        return not lacking

    def _lacking(self, steps: Sequence[Step]) -> float:
        return self.limits.excess(steps[-1].used)

    def _found(self) -> Found:
        told = {step.setting.key(): step for step in self.steps}
        asked = [msgspec.json.decode(key, type=Setting) for key in sorted(self.judge.answered)]
        judged = [told.get(setting.key()) or self._step("", setting) for setting in asked]
        return Found(tuple(self.steps), self.limits, tuple(judged))

    def _study(self) -> Losses:
        """Points lost by every level of every lever alone, by (lever, level), never falling."""
        asked = [(i, level) for i, lever in enumerate(self.levers)
                 for level in range(1, len(lever.levels))]
        self.note(f"study: {len(self.levers)} levers, {len(asked)} settings")
        verdicts = dict(zip(asked, self.judge.many(
            [setting_of(self.levers, {i: level}) for i, level in asked],
            lambda done, of: self.watch("study", done / of)), strict=True))
        whole, losses = self.judge.whole.accuracy, {}
        for i, lever in enumerate(self.levers):
            lost = [whole - verdicts[i, level].accuracy for level in range(1, len(lever.levels))]
            losses |= {(i, level): loss for level, loss in enumerate(rising(lost), 1)}
        return losses

    def _cheapest(self, levels: Mapping[int, int], ends: Mapping[int, int], losses: Losses,
                  used: Used, beyond: bool) -> tuple[int, int] | None:
        """The lever and level that bring most per point; None when none brings anything."""
        worths, lacking = [], self.limits.excess(used)
        for index, lever in enumerate(self.levers):
            now = levels[index]
            # A width or a share may take more than it brings until the next one.
            for level in range(now + 1, min(now + 1 + AHEAD[lever.kind], ends[index])):
                then = self.costs(setting_of(self.levers, {**levels, index: level}))
                won = (self.limits.gain(used, then) if beyond else
                       lacking - self.limits.excess(then))
                lost = losses[index, level] - losses.get((index, now), 0.0)
                if won > 0:
                    worths.append((won / max(lost, self.noise), -index, -level))
        return (-max(worths)[1], -max(worths)[2]) if worths else None

    def _step(self, move: str, setting: Setting) -> Step:
        return Step(move, setting, self.costs(setting), self.judge(setting))

    def _scaled(self, lever: Lever) -> Lever:
        """A lever of time steps with the scales of thresholds that suit fewer of them best."""
        if lever.kind != "time":
            return lever
        whole, scales = int(lever.levels[0]), [1.0]
        for steps in map(int, lever.levels[1:]):
            tried = (1.0, levers.threshold_scale(whole, steps))
            verdicts = self.judge.many([Setting(time_steps=steps, threshold_scale=scale)
                                        for scale in tried])
            best = max((verdict.accuracy, -i) for i, verdict in enumerate(verdicts))
            scales.append(tried[-best[1]])
        return replace(lever, scales=tuple(scales))

    def _name(self, index: int, level: int) -> str:
        lever = self.levers[index]
        return f"{lever.kind} {lever.name} {lever.levels[level]:g}"


def rising(losses: Sequence[float]) -> list[float]:
    """The nearest sequence, by least squares, that never falls: more taken away costs no less.

    Pools neighbours that fall (Barlow et al. 1972): a share of what the sample's noise did.
    """
    pools: list[list[float]] = []
    for loss in losses:
        pools.append([loss])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [float(np.mean(pool)) for pool in pools for _ in pool]


def require_found(found: Found, targets: Sequence[Target], options: Options) -> None:
    """Raise Infeasible with the best point reached, the binding limit and what to relax."""
    if not found.unmet:
        return
    best, whole = found.best, found.steps[0].verdict.accuracy
    names = " and ".join(target.name for target in targets)
    more = ",".join(kind for kind in KINDS if kind not in options.levers)
    raise Infeasible(
        f"INFEASIBLE: {names} within {options.max_drop:g} points: best reached after "
        f"{len(found.steps) - 1} moves is {best.verdict.accuracy:.2f} % (whole {whole:.2f} %) with "
        f"{found.limits.told(best.used)}",
        "a larger --max-drop, --rounds 3 --fine-tune 10 to train in between, "
        f"{f'--levers with {more} too, ' if more else ''}less to save, or a larger board",
        best.setting)
