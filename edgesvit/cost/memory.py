"""Bytes a deployment takes in each memory region of a target, and whether that fits."""

from collections.abc import Mapping

import msgspec
import numpy as np

from edgesvit.errors import DoesNotFit
from edgesvit.profiles import Profile
from edgesvit.program.ops import ChooseTokens, Classify, Conv, Fire, Op, Program, SelfAttention
from edgesvit.program.packing import packed_bytes
from edgesvit.program.plan import plan
from edgesvit.targets import Target

USES = ("code", "weights", "arena", "stack", "io")
UNPACKED = "unpacked"  # weights of a small core made bytes at boot, in memory the arena leaves free

# Before anything is built, code, stack and io are guesses: the size of a past build, rounded up.
# The table shows them as estimates beside what the linker and then the board say.
_BEFORE_BUILD = {
    "mcu": {"code": 54 * 1024, "stack": 8 * 1024, "io": 4 * 1024},
    "linux": {"code": 1536 * 1024, "stack": 160 * 1024, "io": 64 * 1024},
    "host": {"code": 1536 * 1024, "stack": 160 * 1024, "io": 64 * 1024},
}


class MemoryRow(msgspec.Struct, frozen=True):
    """One use of one region; a column is None where nobody has said yet."""

    region: str
    use: str
    estimated_bytes: int | None
    linked_bytes: int | None
    observed_bytes: int | None
    region_budget_bytes: int


def estimate(program: Program, program_bytes: int, target: Target) -> dict[str, int]:
    """Bytes by use before the build: exact for weights and arena, a guess for the rest."""
    return {**_BEFORE_BUILD[target.kind], "weights": program_bytes,
            "arena": plan(program).arena_bytes}


def table(target: Target, estimated: Mapping[str, int], linked: Mapping[str, int],
          observed: Mapping[str, int]) -> list[MemoryRow]:
    """The three columns, one row a use, in the order of USES; UNPACKED where a board says so."""
    rows = [MemoryRow(target.region_for(use).name, use, estimated[use], linked.get(use),
                      observed.get(use), target.region_for(use).bytes) for use in USES]
    if unpacked := observed.get(UNPACKED):
        arena = target.region_for("arena")
        rows.append(MemoryRow(arena.name, UNPACKED, None, None, unpacked, arena.bytes))
    return rows


def shortfalls(used: Mapping[str, int], target: Target, profile: Profile) -> list[str]:
    """One sentence for each budget that `used` bytes (by use) exceed; empty when all fit."""
    found = []
    for region in target.memory:
        held = [use for use in USES if target.region_for(use) is region]
        needed = sum(used[use] for use in held)
        if needed > region.bytes:
            found.append(f"needs {_kib(needed)} of {region.name} ({' + '.join(held)}), "
                         f"has {_kib(region.bytes)}")
    for use in ("weights", "arena"):
        budget = getattr(profile, f"{use}_bytes")
        if budget is not None and used[use] > budget:
            found.append(f"needs {_kib(used[use])} of {use}, profile {profile.name!r} allows "
                         f"{_kib(budget)}")
    return found


def constants(op: Op) -> list[np.ndarray]:
    """An operator's weights, biases, thresholds and scales; the file packs weights."""
    match op:
        case Conv():
            # What follows the currents is a neuron or a new scale, never both.
            after = op.scale if op.threshold is None else op.threshold
            return [op.weight, op.bias, after]
        case Classify():
            return [op.weight, op.bias]
        case Fire():
            return [op.threshold]
        case ChooseTokens():
            return [] if op.scale is None else [op.scale]
        case SelfAttention():
            return [np.array(op.level_thresholds, np.int32)]
        case _:
            return []


def parameters(op: Op) -> int:
    """How many constants an operator has."""
    return sum(array.size for array in constants(op))


def parameter_bytes(op: Op) -> int:
    """What they take in the file, alignment not counted."""
    whole = sum(array.nbytes for array in constants(op))
    return whole - op.weight.size + weight_bytes(op) if isinstance(op, Conv | Classify) else whole


def weight_bytes(op: Conv | Classify) -> int:
    """What an operator's packed weights take."""
    return packed_bytes(*op.weight.shape, op.weight_bits)


def contributors(program: Program, count: int = 5) -> list[str]:
    """The largest single things in the weights and in the arena, largest first."""
    weights = {op.output: weight_bytes(op) for op in program.ops
               if isinstance(op, Conv | Classify)}
    buffers = {b.name: b.bytes for b in plan(program).buffers}
    rows = [(size, f"weights of {name}") for name, size in weights.items()]
    rows += [(size, f"arena: {name}") for name, size in buffers.items()]
    return [f"{name:<36} {_kib(size):>10}" for size, name in sorted(rows, reverse=True)[:count]]


def require_fit(program: Program, used: Mapping[str, int], target: Target, profile: Profile,
                hint: str) -> None:
    """Raise DoesNotFit with every shortfall and the biggest contributors, or return."""
    if short := shortfalls(used, target, profile):
        lines = [f"does not fit {target.name}: {'; '.join(short)}",
                 *(f"  {row}" for row in contributors(program))]
        raise DoesNotFit("\n".join(lines), hint)


def _kib(count: int) -> str:
    return f"{count / 1024:,.1f} KiB"
