"""From a whole model to a board in rounds: give up a part of what is too much, train, go on.

Each round runs the joint search (compress.fit) on the model that the round before has trained, to
an equal part of the way to each limit: of the logarithm of used over allowed. What it takes
of channels, tokens and time steps is gone; widths of weights count on the way, but are chosen anew
in every round and taken in the last, when it is known what the rest leaves to them. No accuracy is
demanded on the way, where the original model's answers teach the smaller one; it is demanded of the
result. Training changes how often neurons fire: where the last one makes the model exceed a limit
again, up to two short rounds follow that train for fewer spikes. Everything is kept in the folder,
so that a killed run goes on where it stopped.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec.structs import replace

from edgesvit.compress.fine_tune import GENTLE, LEARNING_RATE, taught
from edgesvit.compress.fit import Found, Interrupted, Note, Options, Search, Step
from edgesvit.compress.frontier import Point, point
from edgesvit.compress.judge import Judge
from edgesvit.compress.limits import Costs, Limits, instruction_names
from edgesvit.compress.setting import WHOLE, Setting
from edgesvit.compress.watch import Watch, quiet
from edgesvit.errors import UsageError
from edgesvit.profiles import Profile
from edgesvit.run_folder import ModelCard, RunFolder
from edgesvit.targets import Target

MARGIN = 0.02  # of instructions: what training, and other images, may add to them
# A trim trains with spikes that cost; one leaves this share of the limit to that, one has to spare.
# Of a CIFAR-10 Spikformer's instructions on an A76 two epochs took 6 % at 0.3, for 0.9 points; a
# search that took 7 % in channels, and two epochs, lost 1.9.
TRIM_MARGINS = (-0.05, 0.04)
TRIM_RATE_WEIGHT = 0.3
TRIM_SHARE = 8  # an eighth of the last round's epochs


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`epochs` train the result at `learning_rate`, `between` the models before, gently;
    `rate_weight` as in training.
    """

    rounds: int
    epochs: int
    between: int = 1
    learning_rate: float = LEARNING_RATE
    rate_weight: float = 0.0


class Round(msgspec.Struct, frozen=True):
    """What one round chose to take from the model that it began with (widths of weights are not
    taken before the last), and what training for `epochs` made of the rest.

    Accuracies are percent of the search images, `unmet` names limits that the trained model misses.
    """

    setting: Setting
    moves: int
    accuracy_before: float
    accuracy_pruned: float
    accuracy: float
    program_bytes: int
    unmet: tuple[str, ...]
    epochs: int


class Shrunk(msgspec.Struct, frozen=True):
    """Where the rounds ended: the model in `folder`, which is `told` in words if it misses any."""

    folder: RunFolder
    rounds: tuple[Round, ...]
    points: tuple[Point, ...]
    judged: int
    told: str = ""


class Stopped(KeyboardInterrupt):
    """The rounds were interrupted; `folder` has the last whole round's model, `setting` what may
    be taken from it.
    """

    def __init__(self, folder: RunFolder, setting: Setting):
        super().__init__("interrupted")
        self.folder, self.setting = folder, setting


class Shrinking:
    """The rounds of one model."""

    def __init__(self, judge_of: Callable[[RunFolder], Judge], targets: Sequence[Target],
                 profile: Profile, options: Options, plan: Plan, note: Note = lambda text: None,
                 watch: Watch = quiet):
        self.judge_of, self.targets, self.options, self.plan = judge_of, targets, options, plan
        self.profile, self.note, self.watch = profile, note, watch
        self.reached: RunFolder | None = None  # the last whole round's model

    def run(self, source: RunFolder, out: RunFolder, spec: str, command: str = "") -> Shrunk:
        """The smaller model of `source`; every round has a folder in `out`. Raises Stopped."""
        judge = self.judge_of(source)
        costs = Costs(judge, self.targets, self.note)
        limits = costs.limits(self.profile, self.options.save_memory,
                              self.options.save_instructions)
        names = instruction_names(self.targets).values()
        aims = limits.tightened(names, MARGIN)
        whole, rounds, points = costs(WHOLE), [], []
        now, last, judged = source, self.plan.rounds, 0
        for number in range(1, last + len(TRIM_MARGINS) + 1 if aims.unmet(whole) else 1):
            if number > last and not limits.unmet(costs(WHOLE)):
                break
            asked = (aims.partway(whole, number / last) if number <= last else
                     limits.tightened(names, TRIM_MARGINS[number - last - 1]))
            found = self._searched(now, judge, costs, asked, number)
            points += [point(step, self.targets, number) for step in found.judged]
            place = RunFolder(out.path / f"round-{number}")
            tuned = self._trained(now, judge, found, place, source, spec, number, command)
            judged += len(judge.named)
            judge = self.judge_of(tuned)
            costs = Costs(judge, self.targets, self.note)
            step = Step(f"round {number}, trained", WHOLE, costs(WHOLE), judge.whole)
            points.append(point(step, self.targets, number + 1))
            rounds.append(Round(
                found.best.setting, len(found.steps) - 1, found.steps[0].verdict.accuracy,
                found.best.verdict.accuracy, judge.whole.accuracy, judge.whole.program_bytes,
                limits.unmet(step.used), self._training(number)[0]))
            self.note(f"round {number}: {rounds[-1].accuracy_before:.2f} -> "
                      f"{rounds[-1].accuracy_pruned:.2f} -> {rounds[-1].accuracy:.2f} % trained")
            now = self.reached = tuned
        return Shrunk(now, tuple(rounds), tuple(points), judged + len(judge.named),
                      limits.told(costs(WHOLE)))

    def _searched(self, now: RunFolder, judge: Judge, costs: Costs, limits: Limits,
                  number: int) -> Found:
        self.note(f"round {number} of {self.plan.rounds}" if number <= self.plan.rounds else
                  f"round {number}: trained, the model exceeds a limit")
        try:
            return Search(judge, costs, limits, self.options, self.note, self.watch).run()
        except Interrupted as stop:
            raise Stopped(now, self._bearable(stop.found)) from None

    def _trained(self, now: RunFolder, judge: Judge, found: Found, place: RunFolder,
                 source: RunFolder, spec: str, number: int, command: str) -> RunFolder:
        pruned, tuned = RunFolder(place.path / "pruned"), RunFolder(place.path / "tuned")
        setting = found.best.setting
        card, weights = judge.model(setting if number >= self.plan.rounds else
                                    replace(setting, bits={}))
        if pruned.card_path.exists() and not _same(pruned, card, weights):
            raise UsageError(f"{place.path} is from another search", "choose another --run")
        pruned.write_model(card, weights)
        try:
            return taught(pruned, tuned, source, spec, *self._training(number), command,
                          self.watch)
        except KeyboardInterrupt:
            raise Stopped(now, self._bearable(found)) from None

    def _training(self, number: int) -> tuple[int, float, float]:
        """How long a round trains, up to which learning rate, and what spikes cost it."""
        plan = self.plan
        if number < plan.rounds:
            return plan.between, min(GENTLE, plan.learning_rate), plan.rate_weight
        if number == plan.rounds:
            return plan.epochs, plan.learning_rate, plan.rate_weight
        return (max(plan.epochs // TRIM_SHARE, 1), plan.learning_rate / 2,
                max(plan.rate_weight, TRIM_RATE_WEIGHT))

    def _bearable(self, found: Found) -> Setting:
        """As far as the search may go without training."""
        floor = found.steps[0].verdict.accuracy - self.options.max_drop
        borne = [step for step in found.steps if step.verdict.accuracy >= floor]
        return borne[-1].setting


def _same(folder: RunFolder, card: ModelCard, weights: Mapping[str, np.ndarray]) -> bool:
    """Whether the folder holds this model."""
    held, arrays = folder.card(), folder.weights()
    return (held.config == card.config and held.layer_bits == card.layer_bits
            and arrays.keys() == weights.keys()
            and all(np.array_equal(arrays[name], weights[name]) for name in arrays))
