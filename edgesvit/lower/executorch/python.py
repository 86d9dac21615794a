"""A .pte file with our operators in ExecuTorch's Python runtime, on this machine."""

import ctypes
from pathlib import Path

import numpy as np

from edgesvit import targets
from edgesvit.lower.executorch.build import operator_library
from edgesvit.lower.executorch.wheel import quiet, sdk


def load_operators(library: Path | None = None) -> None:
    """Register our operators with the Python runtime of this process, from `library` or our build.

    Loading again is harmless, also from another copy: the second leaves the first one's operators.
    """
    host = targets.load("host")
    with quiet():
        from executorch.runtime import Runtime
        Runtime.get()  # its own library first: ours looks for the registry there
    ctypes.CDLL(str(library or operator_library(sdk(host), host)), ctypes.RTLD_GLOBAL)


def run(pte: Path, images: np.ndarray) -> np.ndarray:
    """Logits [n, classes] of uint8 [n, H, W, C]."""
    import torch
    from executorch.runtime import Runtime
    load_operators()
    method = Runtime.get().load_program(pte).load_method("forward")
    return np.stack([method.execute([torch.from_numpy(image.copy())])[0].numpy()
                     for image in images])
