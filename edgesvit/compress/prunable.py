"""What a pruning policy sees of a model: groups with sizes and weights, rates, and no tensor."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from edgesvit.compress import channels
from edgesvit.compress.judge import Verdict
from edgesvit.compress.setting import Setting, Weights
from edgesvit.errors import DoesNotFit, UsageError
from edgesvit.models.config import AnyConfig

Note = Callable[[str], None]
Rates = Mapping[str, float]  # group -> share of its indices that go
# What the papers' architecture leaves prunable with least coupling; residual streams are never
# taken unless asked for: all layers of a stage would lose the same channels.
HIDDEN = ("hidden", "conv", "sep", "mix")
DEFAULT_STEP = 8


class Judging(Protocol):
    """What a policy asks: `edgesvit.compress.judge.Judge`, or anything that answers like it."""

    @property
    def whole(self) -> Verdict: ...

    def __call__(self, setting: Setting) -> Verdict: ...

    def many(self, settings: Sequence[Setting]) -> list[Verdict]: ...

    def program_bytes(self, setting: Setting) -> int: ...


class Infeasible(DoesNotFit):
    """No setting meets the constraints; `best` is the best one that keeps the accuracy."""

    def __init__(self, message: str, hint: str, best: Setting):
        super().__init__(message, hint)
        self.best = best


class Prunable(msgspec.Struct, frozen=True):
    """The groups a policy may prune, how large each is, and in which steps.

    `parameters` counts what leaves with a whole group. A kept number of channels is a multiple of
    `round_to`; 1 is what the papers write, 8 what vector kernels like. `fold_bn` as in Setting.
    """

    groups: tuple[channels.Group, ...]
    parameters: dict[str, int]
    round_to: int = DEFAULT_STEP
    fold_bn: bool = True

    @property
    def names(self) -> list[str]:
        """In the order of the layers."""
        return [group.name for group in self.groups]

    def setting(self, rates: Rates) -> Setting:
        """The setting of these rates; a group that keeps all its channels is left out."""
        kept = {group.name: self._kept(group, rates.get(group.name, 0)) for group in self.groups}
        sizes = {group.name: group.size for group in self.groups}
        return Setting(kept={name: count for name, count in kept.items() if count < sizes[name]},
                       fold_bn=self.fold_bn)

    def _kept(self, group: channels.Group, rate: float) -> int:
        step = self.round_to // math.gcd(self.round_to, group.copies)
        return channels.kept_count(group.size, rate, step)


def prunable(config: AnyConfig, weights: Weights, kinds: Sequence[str] = (),
             round_to: int = DEFAULT_STEP, fold_bn: bool = True) -> Prunable:
    """The groups of these kinds; none given: every kind but residual streams.

    UsageError for a kind that no group of the model has; of HIDDEN a family has some.
    """
    every = channels.groups(config)
    known = sorted({group.kind for group in every})
    unknown = [kind for kind in kinds if kind not in known]
    if unknown and tuple(kinds) != HIDDEN:
        raise UsageError(f"the model has no channel groups of the kind {unknown[0]!r}",
                         f"it has {', '.join(known)}")
    chosen = tuple(group for group in every
                   if (group.kind in kinds if kinds else group.kind != "stream"))
    sizes = {group.name: channels.owned_parameters(weights, group) for group in chosen}
    return Prunable(chosen, sizes, round_to, fold_bn)


def saved(whole: Verdict, verdict: Verdict) -> float:
    """Percent of the program's bytes that a setting saves."""
    return smaller(whole, verdict.program_bytes)


def smaller(whole: Verdict, program_bytes: int) -> float:
    """Percent of the program's bytes that one of so many bytes saves."""
    return 100 * (1 - program_bytes / whole.program_bytes)


def drop(whole: Verdict, verdict: Verdict) -> float:
    """Points of accuracy that a setting loses; negative where it gains."""
    return whole.accuracy - verdict.accuracy


def infeasible(judge: Judging, best: Setting, max_drop: float, save_memory: float,
               widest: Setting) -> Infeasible:
    """The error that tells the best point reached and which constraint binds.

    `widest` is the most that any rate takes away: where even that saves too little, memory binds.
    """
    whole, reached = judge.many([Setting(), best])
    most = smaller(whole, judge.program_bytes(widest))
    point = (f"best point: {saved(whole, reached):.2f} % saved, {drop(whole, reached):.2f} points "
             f"lost on {whole.images} search images")
    if most < save_memory:
        return Infeasible(
            f"INFEASIBLE: the chosen groups hold too little: at the highest rate they save "
            f"{most:.2f} % of the program, asked are {save_memory:g} %; {point}",
            "allow more kinds with --groups (stream is one), or ask for less: --save-memory", best)
    return Infeasible(
        f"INFEASIBLE: {save_memory:g} % of memory cannot be saved within {max_drop:g} points of "
        f"accuracy, which is the constraint that binds; {point}",
        f"--save-memory {max(math.floor(saved(whole, reached)), 0)}, a larger --max-drop, "
        "or --fine-tune 10 with a larger --max-drop", best)
