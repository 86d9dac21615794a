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
    `logits_equal` counts the images run on the target whose logits equal the interpreter's. Where
    the runtime does not promise that (`exact` False), `classes_equal` counts those with the same
    best class and `largest_difference` says how far apart any logit was, as a share of the largest.
    """

    schema_version: int = SCHEMA_VERSION
    tool_version: str = __version__
    target: str
    title: str
    label: str
    runtime: str = "native"
    exact: bool = True
    model: str
    program_crc32: str
    images: int
    logits_equal: int
    classes_equal: int | None = None
    largest_difference: float | None = None
    accuracy: float
    accuracy_images: int
    float_accuracy: float | None
    memory: list[MemoryRow]
    instructions_per_inference: Samples | None
    latency_us: Samples | None
    retries: int
    environment: dict[str, object]
    lowering: dict[str, object] = {}  # what lowering said: operators, delegates, seconds


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


def compare(board: np.ndarray, host: np.ndarray) -> dict[str, int | float]:
    """How far logits [images, classes] are from the host's: the fields of TargetResult."""
    return {"logits_equal": int((board == host).all(1).sum()),
            "classes_equal": int((board.argmax(1) == host.argmax(1)).sum()),
            "largest_difference": float(np.abs(board - host).max() / max(np.abs(host).max(), 1))}
