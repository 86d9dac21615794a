"""Instructions of one inference, predicted from what a program does: an estimate for searching.

The work of an operator is told in a few amounts (`amounts`), each with a price in instructions that
benchmarks/instruction_prices.py fitted to counts of whole models under emulation, one table a core.
A prediction ranks settings of one model; what is reported of a result is counted, never predicted.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from edgesvit.cost.operations import Work, dense_macs
from edgesvit.errors import UsageError
from edgesvit.program.ops import (
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    Kind,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
)
from edgesvit.targets import Target

# A core that was not measured is priced as its relative.
_RELATIVES = (("cortex-a", "cortex-a76"), ("cortex-m0", "cortex-m4"), ("cortex-m3", "cortex-m4"),
              ("cortex-m4", "cortex-m4"), ("cortex-m7", "cortex-m7"), ("cortex-m", "cortex-m55"),
              ("", "cortex-a76"))
NAMES = ("sorted inputs", "window inputs", "row additions", "level additions", "pixel products",
         "neurons", "membrane products", "window products", "attention", "values", "operators")


def amounts(program: Program, work: Mapping[str, Work]) -> np.ndarray:
    """What a program does for an image, in the order of NAMES: float64 [11].

    `work` says, by an operator's output, how often its input fires; it may be that of a wider model
    with the same operators.
    """
    total = np.zeros(len(NAMES))
    for op in program.ops:
        total += _amounts(op, program, work.get(op.output))
    return total


def predict(program: Program, work: Mapping[str, Work], target: Target) -> float:
    """Instructions of one inference on a core like the target's."""
    return float(amounts(program, work) @ np.array(prices(target)))


@cache
def _tables() -> dict[str, dict[str, float]]:
    return tomllib.loads(Path(__file__).with_name("prices.toml").read_text())


def prices(target: Target) -> Sequence[float]:
    """Instructions for one of each amount."""
    cpu = target.cpu.lower()
    relative = next(to for prefix, to in _RELATIVES if cpu.startswith(prefix))
    table = _tables().get(relative)
    if table is None:
        raise UsageError(f"no instruction prices for {target.name} ({target.cpu})",
                         "python benchmarks/instruction_prices.py")
    return [table[name] for name in NAMES]


def _amounts(op: Op, program: Program, work: Work | None) -> np.ndarray:
    found = dict.fromkeys(NAMES, 0.0)
    out = program.value(op.output)
    found["operators"] = 1
    steps = program.time_steps
    macs = dense_macs(op, program)
    match op:
        case EncodeConv() | Classify():
            found["pixel products"] = macs
        case DepthwiseConv():
            found["window products"] = macs
        case SpikeConv() if program.value(op.input).kind == Kind.MEMBRANE:
            found["membrane products"] = macs
        case SpikeConv():
            positions = macs / steps / op.channels
            source = program.value(op.input)
            found["sorted inputs"] = source.tokens * source.shape[2]
            if op.kernel > 1:  # joined from sorted rows, or sorted once more
                found["window inputs"] = positions
            if source.kind == Kind.LEVELS:
                found["level additions"] = positions * op.channels * steps * work.rate
            else:
                found["row additions"] = positions * op.channels * work.union
        case SelfAttention():
            found["attention"] = work.sops
        case _:
            found["values"] = steps * out.tokens * out.shape[2]
    if isinstance(op, Conv):
        pooled = max(op.pool_stride, 1) ** 2 if getattr(op, "pool", 0) else 1
        found["neurons"] = steps * out.tokens * op.channels * pooled
    return np.array([found[name] for name in NAMES])
