"""Reading a configuration off a checkpoint's tensor shapes; needs no torch."""

from collections.abc import Mapping
from typing import Any

from edgesvit.errors import UsageError

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(shapes: Shapes, name: str, rank: int) -> tuple[int, ...]:
    """The shape of a tensor; UsageError when it is missing or has not `rank` axes."""
    if name not in shapes:
        raise UsageError(f"the checkpoint lacks the tensor {name}", _WHOLE)
    if len(shapes[name]) != rank:
        raise UsageError(f"{name} has {len(shapes[name])} axes, not {rank}", _WHOLE)
    return tuple(shapes[name])


def depth_of(shapes: Shapes, prefix: str = "block") -> int:
    """The number of blocks `{prefix}.{i}.`."""
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{prefix}.")})


def image_size_of(given: Mapping[str, Any], default: int) -> tuple[int, int]:
    """H, W from `img` (one number for a square, or two); it leaves no trace in the tensors."""
    size = given.get("img") or default
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


_WHOLE = "give the whole state dict of one model"
