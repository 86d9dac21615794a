"""Spike programs as ExecuTorch programs (.pte) with integer operators of our own.

On a board there are a runner, ExecuTorch's one library, our operators and the program: neither
Python nor PyTorch. What imports PyTorch here is imported when a program is exported.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgesvit.disk import write_atomic
from edgesvit.errors import UsageError
from edgesvit.lower.artifact import IMAGES, THREADS, Artifact
from edgesvit.lower.compile import loaded_bytes
from edgesvit.lower.emulation import board_libraries, emulation_root
from edgesvit.lower.executorch import build
from edgesvit.lower.executorch.wheel import check_versions, quiet, sdk
from edgesvit.lower.glibc import least_glibc
from edgesvit.program import file
from edgesvit.resources import cache_dir
from edgesvit.targets import Target

PROGRAM = "program.pte"


def lower(program: Path, target: Target, mode: str = "", images: np.ndarray | None = None
          ) -> Artifact:
    """The .pte of the .esv file `program`, with all that runs it on `target`.

    Raises UsageError for any `mode` and where the executorch extra is missing, EdgesvitError where
    its wheel for another processor cannot be fetched or a compiler fails.
    """
    if mode:
        raise UsageError(f"integer operators have no {mode}", "--runtime xnnpack-int8")
    return artifact("executorch", exported(program), target, (build.operator_library,))


def artifact(runtime: str, pte: Path, target: Target,
             libraries: tuple[Callable[[Path, Target], Path], ...], exact: bool = True) -> Artifact:
    """The .pte file with the board runner and what `libraries`, called with the SDK and the
    target, give: each brings operators or a backend.
    """
    folder = sdk(target)
    runner, core = build.board_runner(folder, target), build.runtime_library(folder)
    brought = [library(folder, target) for library in libraries]
    theirs = board_libraries(target)
    facts = told(pte)
    linked = loaded_bytes((runner, core, *brought, *theirs)) | {
        "arena": facts["arena_bytes"], "weights": pte.stat().st_size}
    if facts["delegates"]:  # a backend packs the weights anew, outside the arena of the plan
        linked["arena"] += linked["weights"]
    named = [word for path in brought for word in ("--library", path.name)]
    return Artifact(
        runtime, runner, linked, exact=exact, notes=facts,
        files=(pte, core, *brought, *theirs),
        arguments=("--threads", THREADS, *named, pte.name, IMAGES),
        root=emulation_root(target.emulator.cpu) if target.transport == "qemu-user" else None,
        glibc=least_glibc([runner, core, *brought]))


def exported(program: Path) -> Path:
    """The .pte file, made once for each .esv file, version of ExecuTorch and exporter."""
    return kept("integer", program.read_bytes(),
                lambda: _export(program), ("export.py", "operators.py"))


def kept(what: str, key: bytes, make: Callable[[], bytes], sources: tuple[str, ...]) -> Path:
    """A .pte from the cache, or from `make()` when anything that it depends on is new."""
    digest = hashlib.sha256(f"{what} {check_versions()}".encode() + key)
    for name in sources:
        digest.update((Path(__file__).parent / name).read_bytes())
    path = cache_dir("executorch", digest.hexdigest()[:24]) / PROGRAM
    if not path.exists():
        write_atomic({path: make()})
    return path


def told(pte: Path) -> dict[str, object]:
    """What the file says of itself, ahead of time: arena_bytes, operators, delegates."""
    facts = pte.with_suffix(".json")
    if not facts.exists():
        from edgesvit.lower.executorch.read import describe
        write_atomic({facts: msgspec.json.encode(describe(pte.read_bytes()))})
    return msgspec.json.decode(facts.read_bytes())


def _export(program: Path) -> bytes:
    with quiet():
        from edgesvit.lower.executorch.export import export
        return export(file.read(program))
