"""What settings of a model take on one or several boards, and what those boards allow."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from edgesvit.compress.judge import Judge
from edgesvit.compress.setting import WHOLE, Setting
from edgesvit.cost import instructions, memory
from edgesvit.cost.operations import work
from edgesvit.profiles import Profile
from edgesvit.program.file import to_bytes
from edgesvit.program.ops import Program
from edgesvit.targets import Target

TRACED = 2  # images whose firing rates stand for all in predictions of instructions
PROGRAM = "program"
Used = Mapping[str, float]


class Limits(msgspec.Struct, frozen=True):
    """By name, the most that a model may take: bytes, or instructions of an inference."""

    of: dict[str, float]

    def excess(self, used: Used) -> float:
        """How far they are exceeded: the sum of the logarithms, 0 when all are met."""
        return sum(max(0.0, math.log(max(used[name], 1) / limit))
                   for name, limit in self.of.items())

    def unmet(self, used: Used) -> tuple[str, ...]:
        """The names of those that are exceeded."""
        return tuple(name for name, limit in self.of.items() if used[name] > limit)

    def tightened(self, names: Sequence[str], margin: float) -> "Limits":
        """With less allowed of `names`, by a share `margin`."""
        return Limits({name: limit * (1 - margin) if name in names else limit
                       for name, limit in self.of.items()})

    def told(self, used: Used) -> str:
        """Those that are exceeded, in words; '' when none is."""
        return "; ".join(f"{name} {used[name]:,.0f} of {self.of[name]:,.0f}"
                         for name in self.unmet(used))


class Costs:
    """What settings of the judge's model take on every target: bytes, predicted instructions.

    Firing rates are those of the model as it is; less of it is assumed to fire alike.
    """

    def __init__(self, judge: Judge, targets: Sequence[Target]):
        self.judge, self.targets = judge, tuple(targets)
        program = judge.program(WHOLE)
        self.work = {row.output: row for row in work(program, judge.images()[:TRACED])}
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
            found |= {self._named(region.name, target): region.bytes for region in target.memory}
        for use in ("weights", "arena"):
            if (budget := getattr(profile, f"{use}_bytes")) is not None:
                found[f"profile's {use}"] = budget
        if save_memory:
            found[PROGRAM] = (1 - save_memory / 100) * whole[PROGRAM]
        if save_instructions:
            found |= {name: (1 - save_instructions / 100) * whole[name]
                      for name in self.instruction_names()}
        return Limits(found)

    def instruction_names(self) -> list[str]:
        """The names under which instructions are found, one a target."""
        return [self._named("instructions", target) for target in self.targets]

    def _named(self, what: str, target: Target) -> str:
        return what if len(self.targets) == 1 else f"{what} of {target.name}"

    def _used_by_key(self, key: str) -> Used:
        program = self.judge.shape(msgspec.json.decode(key, type=Setting))
        used: dict[str, float] = {PROGRAM: len(to_bytes(program))}
        for target in self.targets:
            used |= self._on(target, program, int(used[PROGRAM]))
        return used

    def _on(self, target: Target, program: Program, program_bytes: int) -> dict[str, float]:
        by_use = memory.estimate(program, program_bytes, target)
        used = {self._named(region.name, target): sum(
            size for use, size in by_use.items() if target.region_for(use) is region)
            for region in target.memory}
        used |= {f"profile's {use}": by_use[use] for use in ("weights", "arena")}
        used[self._named("instructions", target)] = instructions.predict(
            program, self.work, target)
        return used
