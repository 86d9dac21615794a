"""Checks that several families' configurations share; each raises UsageError in one line."""

from collections.abc import Sequence

import msgspec

from edgesvit.errors import UsageError

MAX_TIME_STEPS = 8  # the spikes of one neuron over all T steps are one byte

Sizes = tuple[tuple[int, int], ...]


def check_time_steps(time_steps: int, limit: int = MAX_TIME_STEPS) -> None:
    """T is 1 to `limit`."""
    if not 1 <= time_steps <= limit:
        raise UsageError(
            f"time_steps is {time_steps}; the spikes of all steps of a neuron share a byte",
            f"choose 1 to {limit} time steps")


def check_positive(config: msgspec.Struct, names: Sequence[str]) -> None:
    """Every named number, or every number of a named tuple, is 1 or more."""
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number < 1:
                raise UsageError(f"{name} has the value {number}", "it must be 1 or more")


def check_blocks(config: msgspec.Struct, names: Sequence[str], blocks: int) -> None:
    """Every named tuple has one width, 1 or more, per block."""
    for name in names:
        dims = getattr(config, name)
        if len(dims) != blocks:
            raise UsageError(f"{name} has {len(dims)} entries for {blocks} blocks",
                             "give one per block")
        if min(dims) < 1:
            raise UsageError(f"{name} has the value {min(dims)}", "a block keeps 1 or more")


def check_stem_pool(pool: str) -> None:
    """Four characters, a 1 for each stem stage that ends in a max-pool."""
    if len(pool) != 4 or set(pool) - {"0", "1"}:
        raise UsageError(
            f"pool '{pool}' is not four characters of 0 and 1",
            "for example 0011: pool after the third and the fourth stem stage")


def stem_widths(dim: int, stem: Sequence[int] | None) -> tuple[int, int, int, int]:
    """The widths of the four stem convolutions: those given, else D/8, D/4, D/2, D."""
    if stem is None and dim % 8:
        raise UsageError(
            f"dim {dim} gives no whole stem widths D/8, D/4, D/2",
            f"choose --dim as a multiple of 8, or give --stem with four widths ending in {dim}",
        )
    widths = tuple(stem) if stem is not None else (dim // 8, dim // 4, dim // 2, dim)
    if len(widths) != 4 or widths[3] != dim:
        raise UsageError(
            f"stem {','.join(map(str, widths))} does not end in the embedding width {dim}",
            f"give four widths, the last one {dim}, for example --stem 16,32,64,{dim}",
        )
    return widths


def stem_sizes(image_size: tuple[int, int], pool: str) -> Sizes:
    """H, W at which each of the four stem convolutions runs, then H, W of the token grid."""
    sizes = [image_size]
    for pooled in pool:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2) if pooled == "1" else sizes[-1])
    return tuple(sizes)
