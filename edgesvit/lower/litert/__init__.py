"""Spike programs as .tflite files, written without a converter, and LiteRT to run them.

On a board there are a small runner, LiteRT's one library and the model: no Python.
"""

import hashlib
import time
from pathlib import Path

import numpy as np

from edgesvit.lower.artifact import IMAGES, THREADS, Artifact
from edgesvit.lower.compile import STRICT, build, loaded_bytes
from edgesvit.lower.emulation import COMPILER, board_libraries, emulation_root
from edgesvit.lower.glibc import least_glibc
from edgesvit.lower.litert.exact import exact
from edgesvit.lower.litert.fast import difference, fast
from edgesvit.lower.litert.memory import activation_bytes, resident_bytes
from edgesvit.lower.litert.package import arm_library, host_library
from edgesvit.lower.litert.twin import twin
from edgesvit.program import file
from edgesvit.program.ops import Program
from edgesvit.resources import cache_dir, shipped
from edgesvit.targets import Target

_NAMES = {"exact": "litert", "fast": "litert-fast", "twin": "litert-twin"}


def lower(program: Path, target: Target, mode: str = "exact", images: np.ndarray | None = None
          ) -> Artifact:
    """The .tflite file of the .esv file `program`, with LiteRT and its runner for `target`.

    `mode` is exact (the interpreter's logits), fast (int8 layers, scales from `images`) or twin.
    Raises EdgesvitError where float32 cannot carry the program, or without the litert extra.
    """
    begin = time.monotonic()
    whole = file.read(program)
    model = written(whole, mode, images)
    seconds = round(time.monotonic() - begin, 3)
    path = _stored(model, f"{program.stem}-{mode}.tflite")
    library = arm_library() if "aarch64" in target.isa else host_library()
    runner, brought = linux_runner(target), board_libraries(target)
    linked = loaded_bytes((runner, library, *brought)) | {
        "weights": len(model), "arena": resident_bytes(model)}
    return Artifact(
        _NAMES[mode], runner, linked, exact=mode == "exact", files=(path, library, *brought),
        arguments=("--threads", THREADS, library.name, path.name, IMAGES),
        root=emulation_root(target.emulator.cpu) if target.transport == "qemu-user" else None,
        glibc=least_glibc([runner, library, *brought]),
        notes={"seconds": seconds, "model_bytes": len(model), "arena_is_resident": True,
               "activation_bytes": activation_bytes(model)} | _said(model, whole, mode, images))


def _said(model: bytes, program: Program, mode: str, images: np.ndarray) -> dict[str, object]:
    """What there is to know of a file that is not exact."""
    if mode == "fast":
        return difference(model, program, images)
    return {"twin": "untrained, timing only"} if mode == "twin" else {}


def written(program: Program, mode: str, images: np.ndarray | None) -> bytes:
    """The .tflite file."""
    if mode == "exact":
        return exact(program)
    return twin(program) if mode == "twin" else fast(program, images)


def linux_runner(target: Target) -> Path:
    """The runner for `target`; libraries lie beside it. Not position-independent: the emulator's
    counting plug-in goes by the addresses in its file."""
    folders = [shipped("firmware") / name for name in ("litert", "linux")]
    sources = [folders[0] / "runner.c", folders[1] / "probe.c", folders[1] / "windows.c"]
    compiler = COMPILER if "aarch64" in target.isa else "cc"
    flags = [*STRICT, "-D_GNU_SOURCE", "-O2", "-no-pie", "-Wl,--disable-new-dtags,-rpath,$ORIGIN",
             *(f"-I{folder}" for folder in folders), "-ldl"]
    return build(compiler, sources, flags, "edgesvit-litert",
                 depends=[folders[0] / "litert.h", folders[1] / "probe.h",
                          folders[1] / "windows.h"])


def _stored(model: bytes, name: str) -> Path:
    path = cache_dir("litert", hashlib.sha256(model).hexdigest()[:24]) / name
    path.write_bytes(model)
    return path
