"""Our kernels inside TFLite: a model of one custom operator, and the delegate that runs it.

For programs that already speak to a TFLite interpreter: `load_delegate` and nothing else changes.
The custom operator `edgesvit.program` holds the whole .esv file: one boundary, our own arena.
"""

import hashlib
import sys
from pathlib import Path

from edgesvit.errors import UsageError
from edgesvit.lower.artifact import IMAGES, THREADS, Artifact
from edgesvit.lower.compile import STRICT, build, loaded_bytes
from edgesvit.lower.emulation import COMPILER
from edgesvit.lower.glibc import least_glibc
from edgesvit.lower.litert.writer import Writer
from edgesvit.lower.native import host_library, includes, linux_sources
from edgesvit.program import file
from edgesvit.program.ops import Kind, Program
from edgesvit.resources import cache_dir, shipped
from edgesvit.targets import Target

CUSTOM = "edgesvit.program"


def one_node(program: Program) -> bytes:
    """The .tflite file: uint8 image [1, H, W, C] or events [T, H, W, C] to int32 scores."""
    w, source = Writer(), program.input
    frames = 1 if source.kind == Kind.PIXELS else program.time_steps
    image = w.tensor([frames, *source.shape], "uint8")
    scores = w.tensor([1, program.output.shape[2]], "int32")
    w.custom(CUSTOM, [image], [scores], file.to_bytes(program))
    return w.finish([image], [scores])


def delegate(target: Target) -> Path:
    """The shared library with our kernels for `target`; the fastest are chosen when it runs.

    On this machine it leans on the library of the kernels that is there already.
    """
    sources, headers = linux_sources()
    folder = shipped("firmware") / "litert"
    flags = [*STRICT, "-D_GNU_SOURCE", "-shared", "-fPIC", *includes(), f"-I{folder}"]
    compiler, headers = "cc", [*headers, folder / "tflite_abi.h"]
    if target.transport == "local":
        place = host_library().parent
        sources = []
        flags += ["-O2", f"-L{place}", f"-Wl,--no-as-needed,-rpath,{place}", "-ledgesvit"]
    else:
        flags += ["-O3", "-pthread", "-fvisibility=hidden", *target.compiler_flags]
        compiler = COMPILER if "aarch64" in target.isa else compiler
    return build(compiler, [folder / "delegate.c", *sources], flags, "libedgesvit_delegate.so",
                 headers)


def lower(program: Path, target: Target, mode: str = "", images: object = None) -> Artifact:
    """Model, delegate and the Python runner, for a machine whose Python has a TFLite runtime.

    Raises UsageError for emulated boards, which have no Python.
    """
    if target.emulator or mode:
        raise UsageError(f"{target.name} runs no {mode or 'Python'}: the delegate needs a Python "
                         "with ai-edge-litert", "--runtime litert or --runtime native")
    model = one_node(file.read(program))
    folder = cache_dir("litert", hashlib.sha256(model).hexdigest()[:24])
    path, library = folder / f"{program.stem}-kernels.tflite", delegate(target)
    path.write_bytes(model)
    linked = loaded_bytes((library,)) | {"weights": len(model), "arena": file.arena_bytes(program)}
    return Artifact("litert-kernels", _runner(folder, target), linked, files=(path, library),
                    arguments=("--threads", THREADS, "--delegate", library.name, path.name, IMAGES),
                    glibc=least_glibc([library]),
                    notes={"model_bytes": len(model)})


def _runner(folder: Path, target: Target) -> Path:
    """The Python runner; on this machine for this very Python."""
    text = (shipped("firmware") / "litert" / "run.py").read_text()
    if target.transport == "local":
        text = f"#!{sys.executable}\n" + text.partition("\n")[2]
    path = folder / "edgesvit-litert.py"
    path.write_text(text)
    path.chmod(0o755)
    return path
