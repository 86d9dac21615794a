"""What settings of a model take on one or several boards, and what those boards allow."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from edgesvit.boards.counted import counted
from edgesvit.compress.judge import Judge
from edgesvit.compress.setting import WHOLE, Setting
from edgesvit.cost import instructions, memory
from edgesvit.cost.operations import Work, work
from edgesvit.errors import EdgesvitError
from edgesvit.profiles import Profile
from edgesvit.program.file import to_bytes
from edgesvit.program.ops import Program
from edgesvit.targets import Target

TRACED = 2  # images whose firing rates stand for all in predictions of instructions
COUNTED = 4  # images of which instructions are counted
PROGRAM = "program"
Used = Mapping[str, float]


class Limits(msgspec.Struct, frozen=True):
    """By name, the most that a model may take: bytes, or instructions of an inference."""

    of: dict[str, float]

    def excess(self, used: Used) -> float:
        """How far they are exceeded: the sum of the logarithms, 0 when all are met."""
        return sum(max(0.0, math.log(max(used[name], 1) / limit))
                   for name, limit in self.of.items())

    def gain(self, before: Used, after: Used) -> float:
        """How much less is taken of those that are exceeded, also where that goes beyond a limit.

        The sum of the logarithms, less what exceeds others from now on.
        """
        return sum(math.log(before[name] / max(after[name], 1)) if before[name] > limit
                   else -max(0.0, math.log(max(after[name], 1) / limit))
                   for name, limit in self.of.items())

    def unmet(self, used: Used) -> tuple[str, ...]:
        """The names of those that are exceeded."""
        return tuple(name for name, limit in self.of.items() if used[name] > limit)

    def tightened(self, names: Collection[str], margin: float) -> "Limits":
        """With less allowed of `names`, by a share `margin`."""
        return Limits({name: limit * (1 - margin) if name in names else limit
                       for name, limit in self.of.items()})

    def partway(self, used: Used, share: float) -> "Limits":
        """Those on a part of the way from what is used: the same share of each one's logarithm."""
        return Limits({name: limit * max(used[name] / limit, 1.0) ** (1 - share)
                       for name, limit in self.of.items()})

    def told(self, used: Used) -> str:
        """Those that are exceeded, in words; '' when none is."""
        return "; ".join(f"{name} {used[name]:,.0f} of {self.of[name]:,.0f}"
                         for name in self.unmet(used))


class Costs:
    """What settings of the judge's model take on every target: bytes, predicted instructions.

    A prediction starts from a setting that was measured, the model as it is or a later one
    (`measure`): others are assumed to fire alike and, on a target that is emulated here, to be off
    the count by the same factor. `note` is told where nothing can be counted.
    """

    def __init__(self, judge: Judge, targets: Sequence[Target],
                 note: Callable[[str], None] = lambda text: None):
        self.judge, self.targets, self.note = judge, tuple(targets), note
        self.work: dict[str, Work] = {}
        self.scales = {target.name: 1.0 for target in self.targets}
        self._counting, self._measured = self.targets, ""
        self.measure(WHOLE)

    def measure(self, setting: Setting) -> None:
        """Predict from this setting's firing rates and counts from now on.

        The model as it is may be too large to be counted on a target. There its prediction is what
        others are compared with, and theirs stay predictions too.
        """
        if self._measured == setting.key():
            return
        program, images = self.judge.program(setting), self.judge.images()[:COUNTED]
        self._measured = setting.key()
        self.work |= {row.output: row for row in work(program, images[:TRACED])}
        counts = {target: self._count(program, target, images) for target in self._counting}
        self._counting = tuple(target for target, count in counts.items() if count)
        self.scales |= {target.name: counts[target] / self._predicted(program, target)
                        for target in self._counting}
        self.used = lru_cache(4096)(self._used_by_key)

    def __call__(self, setting: Setting) -> Used:
        return self.used(setting.key())

    def limits(self, profile: Profile, save_memory: float, save_instructions: float) -> Limits:
        """What the targets have, what the profile allows and what is asked of the whole model.

        The two savings are percent of the program's bytes and of the instructions on each target's
        core, 0 for no limit.
        """
        whole, found = self(WHOLE), {}
        for target in self.targets:
            found |= {_named(region.name, target, self.targets): region.bytes
                      for region in target.memory}
        for use in ("weights", "arena"):
            if (budget := getattr(profile, f"{use}_bytes")) is not None:
                found[f"profile's {use}"] = budget
        if save_memory:
            found[PROGRAM] = (1 - save_memory / 100) * whole[PROGRAM]
        if save_instructions:
            found |= {name: (1 - save_instructions / 100) * whole[name]
                      for name in instruction_names(self.targets).values()}
        return Limits(found)

    def _used_by_key(self, key: str) -> Used:
        program = self.judge.shape(msgspec.json.decode(key, type=Setting))
        used: dict[str, float] = {PROGRAM: len(to_bytes(program))}
        for target in self.targets:
            used |= self._on(target, program, int(used[PROGRAM]))
        return used

    def _on(self, target: Target, program: Program, program_bytes: int) -> dict[str, float]:
        by_use = memory.estimate(program, program_bytes, target)
        used = {_named(region.name, target, self.targets): sum(
            size for use, size in by_use.items() if target.region_for(use) is region)
            for region in target.memory}
        used |= {f"profile's {use}": by_use[use] for use in ("weights", "arena")}
        used[instruction_names(self.targets)[target.name]] = (
            self.scales[target.name] * self._predicted(program, target))
        return used

    def _predicted(self, program: Program, target: Target) -> float:
        return instructions.predict(program, self.work, target)

    def _count(self, program: Program, target: Target, images: np.ndarray) -> float | None:
        try:
            return counted(program, target, images)
        except EdgesvitError as error:  # it does not fit yet, or the emulator is not installed
            self.note(f"instructions on {target.name} are predicted alone: {error.message}")
            return None


def instruction_names(targets: Sequence[Target]) -> dict[str, str]:
    """By target, the name under which its instructions are found."""
    return {target.name: _named("instructions", target, targets) for target in targets}


def _named(what: str, target: Target, targets: Sequence[Target]) -> str:
    return what if len(targets) == 1 else f"{what} of {target.name}"
