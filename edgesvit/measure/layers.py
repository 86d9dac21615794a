"""What each operator of a program took: one record for every runtime and board."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from edgesvit.errors import EdgesvitError
from edgesvit.program.ops import Program


class LayerTime(msgspec.Struct, frozen=True):
    """One operator, or operators that run as one: `value` is the median over the inferences.

    `unit` says what was counted: us (a clock), instructions or cycles (an emulator, a counter).
    `shape` is that of the result, `[H, W, C]`, or `[T, H, W, C]` where steps have an axis of
    their own.
    """

    name: str
    shape: tuple[int, ...]
    value: float
    unit: str


def layer_times(names: Sequence[str], shapes: Sequence[tuple[int, ...]],
                samples: Sequence[Sequence[float]], unit: str) -> list[LayerTime]:
    """Medians of `samples` [inferences][operators], in the order in which operators run.

    Raises ValueError when an inference has not one figure for each operator.
    """
    return [LayerTime(name, tuple(shape), statistics.median(values), unit)
            for name, shape, values in zip(names, shapes, zip(*samples, strict=True), strict=True)]


def shares(layers: Sequence[LayerTime]) -> list[float]:
    """Of the sum over all layers, each; zeros when nothing took any time."""
    total = sum(layer.value for layer in layers)
    return [layer.value / total if total else 0.0 for layer in layers]


def records(layers: Sequence[LayerTime]) -> list[dict]:
    """As JSON has them: name, shape, value, unit and share, under the key `layers`."""
    return [msgspec.to_builtins(layer) | {"share": share}
            for layer, share in zip(layers, shares(layers), strict=True)]


class Steps(msgspec.Struct):
    """What a runner says of itself: `samples` [inferences][steps] in `unit`, and at which operator
    each step begins, -1 for one that is none of the program's; those have `names`."""

    firsts: list[int]
    samples: list[list[float]]
    unit: str
    names: list[str] = []


def read_steps(lines: Iterable[str], counted: bool, what: str) -> Steps:
    """From the `layers` lines of the Linux runner; instructions if `counted`, else microseconds.

    Raises EdgesvitError when there are none, or where nothing counts instructions.
    """
    said = [dict(part.partition("=")[::2] for part in line.split()[1:])
            for line in lines if line.startswith("layers ")]
    try:
        samples = [[int(value) for value in told["instructions" if counted else "ns"].split(",")]
                   for told in said]
        firsts = [int(value) for value in said[0]["first"].split(",")]
        names = said[0]["names"].split(",") if "names" in said[0] else []
    except (IndexError, KeyError, ValueError) as error:
        raise EdgesvitError(f"{what}: cannot read the runner's layers: {error}") from None
    if counted:
        return Steps(firsts, samples, "instructions", names)
    return Steps(firsts, [[ns / 1000 for ns in sample] for sample in samples], "us", names)


def program_layers(program: Program, steps: Steps) -> list[LayerTime]:
    """The layers of a program; operators that ran as one share a row, named after all of them."""
    begins = [*sorted(first for first in steps.firsts if first >= 0), len(program.ops)]
    rows = []
    for i, first in enumerate(steps.firsts):
        if first < 0:
            rows.append((steps.names[i], ()))
            continue
        end = next(other for other in begins if other > first)
        outputs = [op.output for op in program.ops[first:end]]
        rows.append(("+".join(outputs), program.value(outputs[0]).shape))
    names, shapes = zip(*rows, strict=True)
    return layer_times(names, shapes, steps.samples, steps.unit)
