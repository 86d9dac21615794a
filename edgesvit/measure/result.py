"""The result of one deployment to one target, as it is printed, stored and compared."""

import statistics
from collections.abc import Sequence

import msgspec
import numpy as np

from edgesvit import __version__
from edgesvit.cost.memory import MemoryRow
from edgesvit.errors import ResultDiffers

SCHEMA_VERSION = 1


class Samples(msgspec.Struct, frozen=True):
    """All samples of a quantity, one an inference, and their summary."""

    median: float
    minimum: float
    maximum: float
    all: list[float]


class TargetResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one target did. `label` says how its figures came about: emulated or measured.

    `accuracy` is the integer program's over `accuracy_images` held-out images, in percent;
    `logits_equal` counts the images run on the target whose logits equal the interpreter's.
    """

    schema_version: int = SCHEMA_VERSION
    tool_version: str = __version__
    target: str
    title: str
    label: str
    model: str
    program_crc32: str
    images: int
    logits_equal: int
    accuracy: float
    accuracy_images: int
    float_accuracy: float | None
    memory: list[MemoryRow]
    instructions_per_inference: Samples | None
    latency_us: Samples | None
    retries: int
    environment: dict[str, object]


def samples(values: Sequence[float] | None) -> Samples | None:
    """Summarise; None stays None."""
    if not values:
        return None
    return Samples(statistics.median(values), min(values), max(values), list(values))


def require_equal(board: np.ndarray, host: np.ndarray, target: str) -> None:
    """Raise ResultDiffers unless all logits [images, classes] are equal: no time is reported."""
    differing = np.flatnonzero((board != host).any(1))
    if len(differing):
        first = int(differing[0])
        raise ResultDiffers(
            f"{target}: the logits of {len(differing)} of {len(host)} images differ from the "
            f"host's, first image {first}: {board[first].tolist()} instead of "
            f"{host[first].tolist()}",
            "please report it with the run folder: no time is shown for a wrong result")
