"""The runtimes a program can be lowered to: one table, each behind one module."""

import importlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.lower.artifact import Artifact
from edgesvit.targets import Target


class Runtime(NamedTuple):
    """`module` has `lower(program, target, mode, images) -> Artifact`."""

    module: str
    family: str  # what a target lists in `runtimes`
    mode: str = ""
    calibrates: bool = False  # chooses scales by looking at values: wants training images


CALIBRATION_IMAGES = 32
RUNTIMES = {
    "native": Runtime("edgesvit.lower.native", "native"),
    "executorch": Runtime("edgesvit.lower.executorch", "executorch"),
    "xnnpack-int8": Runtime("edgesvit.lower.executorch.xnnpack", "executorch", "int8", True),
    "xnnpack-fp32": Runtime("edgesvit.lower.executorch.xnnpack", "executorch", "fp32"),
    "litert": Runtime("edgesvit.lower.litert", "litert", "exact"),
    "litert-fast": Runtime("edgesvit.lower.litert", "litert", "fast", True),
    "litert-kernels": Runtime("edgesvit.lower.litert.kernels", "litert"),
}
TWIN = "twin"  # the mode of a dense int8 network of the same shape


def lower(program: Path, target: Target, runtime: str,
          images: np.ndarray | None = None, twin: bool = False) -> Artifact:
    """Lower the .esv file `program` for `target`, which must list the runtime's family.

    `images` uint8 [n, H, W, C] of the training split are for a runtime that calibrates. With
    `twin` the result is a dense int8 network of the same shape, where the runtime has one.
    """
    chosen = RUNTIMES.get(runtime)
    if chosen is None:
        raise UsageError(f"unknown runtime {runtime!r}; known: {', '.join(RUNTIMES)}",
                         "--runtime native")
    if chosen.family not in target.runtimes:
        raise UsageError(f"{target.name} does not run {chosen.family}; it runs "
                         f"{', '.join(target.runtimes)}", "edgesvit targets --json")
    # Imported here: a runtime's packages are needed by who uses it alone.
    module = importlib.import_module(chosen.module)
    return module.lower(program, target, TWIN if twin else chosen.mode, images)
