"""Spike programs for XNNPACK, ExecuTorch's own backend: float32 or int8.

For who cannot use our operators. Convolutions and linear layers are quantized, the arithmetic of
membranes is not: it would cost hundreds of conversions and buy nothing.
"""

from pathlib import Path

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.executorch import artifact, kept
from edgesvit.lower.executorch.wheel import libraries, quiet
from edgesvit.program import file
from edgesvit.targets import Target
from edgesvit.threads import one_torch_thread

CALIBRATION_IMAGES = 32
# What the backend brings, and kernels for what it leaves over; each needs those before it.
_LIBRARIES = ("libexecutorch_threadpool.so", "libexecutorch_kernels_optimized.so",
              "libexecutorch_kernels_quantized.so", "libexecutorch_backend_xnnpack.so")


def lower(program: Path, target: Target, mode: str = "int8", images: np.ndarray | None = None
          ) -> Artifact:
    """`mode` is int8, fp32, or twin: a conventional int8 network of the same shape, untrained.

    `images` uint8 [n, H, W, C] choose the scales of int8. Raises UsageError for operators that have
    no form there, and as edgesvit.lower.executorch.lower does.
    """
    if mode != "fp32" and (images is None or not len(images)):
        raise UsageError("int8 needs images to choose its scales from", "give more --images")
    some = None if mode == "fp32" else np.ascontiguousarray(images[:CALIBRATION_IMAGES], np.uint8)
    key = program.read_bytes() + (b"" if some is None else some.tobytes())
    pte = kept(f"xnnpack {mode}", key, lambda: _export(program, mode, some),
               ("xnnpack.py", "floats.py", "quantize.py", "delegate.py"))
    brought = tuple(lambda sdk, _, name=name: libraries(sdk) / name for name in _LIBRARIES)
    return artifact(f"xnnpack-{mode}", pte, target, brought, exact=False)


def _export(program: Path, mode: str, images: np.ndarray | None) -> bytes:
    with quiet(), one_torch_thread():  # of small tensors
        from edgesvit.lower.executorch.delegate import export
        return export(file.read(program), images, twin=mode == "twin")
