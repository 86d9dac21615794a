"""Instructions of one inference, predicted from what a program does: an estimate for searching.

The work of an operator is told in a few amounts (`amounts`), each with a price in instructions that
benchmarks/instruction_prices.py fitted to counts of whole models under emulation, one table a core.
A prediction ranks settings of one model; what is reported of a result is counted, never predicted.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from edgesvit.cost.operations import Work, dense_macs
from edgesvit.errors import UsageError
from edgesvit.program.ops import (
    ChooseTokens,
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    Fire,
    HadamardAttention,
    Kind,
    MaxPool,
    Op,
    Program,
    SelfAttention,
    SpikeConv,
    TokenAttention,
)
from edgesvit.targets import Target

# A core that was not measured is priced as its relative.
_RELATIVES = (("cortex-a", "cortex-a76"), ("cortex-m0", "cortex-m4"), ("cortex-m3", "cortex-m4"),
              ("cortex-m4", "cortex-m4"), ("cortex-m7", "cortex-m7"), ("cortex-m", "cortex-m55"),
              ("", "cortex-a76"))
NAMES = (
    "sorted inputs", "window inputs", "windows", "lists", "buckets", "single buckets", "rows",
    "row tiles, 8 bits", "row tiles, 1 field", "row tiles, 2 fields", "row tiles, 3 fields",
    "step tiles", "odd row tiles", "level rows", "level buckets", "level tiles",
    "narrow level tiles", "pixel products", "membrane products", "narrow membrane products",
    "window products", "narrow window products", "neurons", "currents", "encoded", "odd channels",
    "attention", "attended levels", "attended values", "fired values", "pooled values",
    "scored values", "summed values", "values", "operators")
TILE, WIDEST = 16, 128  # channels of a vector, and those that a row is read for at once
NIBBLE = 4  # steps that are sorted together


def amounts(program: Program, work: Mapping[str, Work]) -> np.ndarray:
    """What a program does for an image, in the order of NAMES: float64 [35].

    `work` says, by an operator's output, how often its input fires; it may be that of a wider model
    with the same operators.
    """
    total, before = np.zeros(len(NAMES)), None
    for op in program.ops:
        found = {"operators": 1.0} | _amounts(op, program, work.get(op.output))
        if _sorted_for(op) == _sorted_for(before):  # layers of one input are sorted for once
            found |= dict.fromkeys(("sorted inputs", "window inputs", "windows", "lists"), 0.0)
        total += [found.get(name, 0.0) for name in NAMES]
        before = op
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


def _sorted_for(op: Op | None) -> object:
    """Equal for operators that read the same windows."""
    if isinstance(op, SpikeConv):
        return op.input, op.kernel, op.stride, op.pad
    return op and op.output


def _amounts(op: Op, program: Program, work: Work | None) -> dict[str, float]:
    out, macs = program.value(op.output), dense_macs(op, program)
    values = program.time_steps * out.tokens * out.shape[2]
    match op:
        case Classify():
            source = program.value(op.input)
            return {"pixel products": macs,
                    "summed values": program.time_steps * source.tokens * source.shape[2]}
        case EncodeConv():
            found = {"pixel products": macs}
        case DepthwiseConv():
            found = {f"{_narrow(op)}window products": macs}
        case SpikeConv() if program.value(op.input).kind == Kind.MEMBRANE:
            found = {f"{_narrow(op)}membrane products": macs}
        case SpikeConv():
            found = _additions(op, program, work)
        case SelfAttention() | TokenAttention() | HadamardAttention():
            levels = program.value(op.query).kind == Kind.LEVELS
            return {"attended values": values,
                    **({"attended levels": macs} if levels else {"attention": work.sops})}
        case Fire():
            return {"fired values": values}
        case ChooseTokens():
            source = program.value(op.input)
            return {"scored values": program.time_steps * source.tokens * source.shape[2]}
        case MaxPool():
            return {"pooled values": out.tokens * out.shape[2] * op.kernel**2}
        case _:
            return {"values": values}
    return found | _neurons(op, program)


def _narrow(op: Conv) -> str:
    return "narrow " if op.weight_bits < 8 else ""


def _neurons(op: Conv, program: Program) -> dict[str, float]:
    """Neurons on sums in registers, or numbers that are written and read again."""
    out, pool = program.value(op.output), getattr(op, "pool", 0)
    fused = isinstance(op, SpikeConv) and not pool and out.kind == Kind.SPIKES
    kind = "encoded" if isinstance(op, EncodeConv) else "neurons" if fused else "currents"
    each = program.time_steps * out.tokens * max(pool, 1) ** 2
    return {kind: each * op.channels, "odd channels": each * (op.channels % TILE)}


def _additions(op: SpikeConv, program: Program, work: Work) -> dict[str, float]:
    """Inputs are sorted, then each row that fires is added to tiles of channels.

    A width of b bits is stored in as many fields as b has bits set, each added by itself on a core
    that does not expand its weights.
    """
    source, steps = program.value(op.input), program.time_steps
    taps = op.weight.size / op.channels
    windows = program.value(op.output).tokens * max(op.pool, 1) ** 2  # pooled ones overlap
    tiles, odd = math.ceil(op.channels / TILE), op.channels % TILE > 0
    lists = math.ceil(steps / NIBBLE) * (2 ** min(steps, NIBBLE) - 1)
    found = {"sorted inputs": source.tokens * source.shape[2], "windows": windows}
    if op.kernel > 1:  # joined from sorted rows, or sorted once more
        found["window inputs"] = windows * taps
        found["lists"] = windows * op.kernel * lists
    if source.kind == Kind.LEVELS:
        rows = windows * taps * steps * work.rate
        return found | {"level rows": rows, f"{_narrow(op)}level tiles": rows * tiles,
                        "level buckets": windows * steps * tiles * source.max_level}
    rows, spikes = windows * taps * work.union, windows * taps * steps * work.rate
    fields = op.weight_bits.bit_count()
    kind = "8 bits" if op.weight_bits == 8 else f"{fields} field{'s' * (fields > 1)}"
    return found | {
        "rows": rows * math.ceil(op.channels / WIDEST), f"row tiles, {kind}": rows * tiles,
        "step tiles": spikes * tiles, "odd row tiles": rows * odd,
        "buckets" if tiles > 1 else "single buckets":
            windows * tiles * min(lists, taps * work.union)}
