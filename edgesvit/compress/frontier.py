"""What a search has found to choose from: settings that no other one beats in everything."""

from collections.abc import Iterable, Sequence

import msgspec

from edgesvit.compress.fit import Step
from edgesvit.compress.limits import PROGRAM, instruction_names
from edgesvit.compress.setting import Setting
from edgesvit.targets import Target


class Point(msgspec.Struct, frozen=True):
    """One model that was judged: accuracy in percent of the search images.

    `instructions` are predicted, by target. `setting` is what was taken from the model that `round`
    began with (0: the model as given, as in a search of one round); a trained one took nothing.
    """

    program_bytes: int
    instructions: dict[str, float]
    accuracy: float
    round: int
    what: str
    setting: Setting


def point(step: Step, targets: Sequence[Target], number: int = 0) -> Point:
    """A judged setting as a point; one beside the way is told by what it takes."""
    return Point(int(step.used[PROGRAM]),
                 {target: step.used[name] for target, name in instruction_names(targets).items()},
                 step.verdict.accuracy, number, step.move or _told(step.setting), step.setting)


def frontier(points: Iterable[Point]) -> list[Point]:
    """Those that no other one equals in bytes, instructions and accuracy while beating it in one.

    The largest first; of equal ones the first stays.
    """
    every = list({(p.program_bytes, *p.instructions.values(), p.accuracy): p
                  for p in reversed(list(points))}.values())
    kept = [p for p in every if not any(_beats(other, p) for other in every)]
    return sorted(kept, key=lambda p: (-p.program_bytes, -p.accuracy))


def _beats(one: Point, other: Point) -> bool:
    ones, others = ((p.program_bytes, *p.instructions.values(), -p.accuracy)
                    for p in (one, other))
    return ones != others and all(a <= b for a, b in zip(ones, others, strict=True))


def _told(setting: Setting) -> str:
    parts = [f"{name} {count}" for name, count in setting.kept.items()]
    if setting.bits:
        parts.append(f"{min(setting.bits.values())} bits in {len(setting.bits)} layers")
    parts += [f"tokens {name} {share:g}" for name, share in setting.tokens.items()]
    if setting.time_steps:
        parts.append(f"T = {setting.time_steps}")
    return ", ".join(parts) or "whole model"
