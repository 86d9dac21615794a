"""Run a Linux artifact on this machine: natively, or under QEMU's user-mode emulation."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgesvit.boards import process
from edgesvit.errors import EdgesvitError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.compile import build, need
from edgesvit.measure.run import BoardRun, read_runner
from edgesvit.resources import cache_dir, shipped
from edgesvit.targets import Target

DEADLINE_S = 3600.0
IDLE_S = 120.0


def run_native(target: Target, artifact: Artifact, images: np.ndarray, threads: int = 1
               ) -> BoardRun:
    """Run here, on the processor we have."""
    with placed(artifact) as folder:
        return _run([], folder, artifact, target, images, threads)


def run_qemu_user(target: Target, artifact: Artifact, images: np.ndarray, threads: int = 1
                  ) -> BoardRun:
    """Run a foreign executable under `qemu-<arch> -cpu`, counting instructions with our plug-in.

    Without a plug-in that loads (another QEMU version) the count is None, never a guess.
    """
    emulator = [need(target.emulator.program), "-cpu", target.emulator.cpu]
    if artifact.root:
        emulator += ["-L", str(artifact.root)]
    with placed(artifact) as folder:
        counts = folder / "counts"
        plugin = plugin_flags(emulator, folder / artifact.executable.name, counts)
        run = _run([*emulator, *plugin], folder, artifact, target, images, threads)
        # Clock and resident memory under emulation are the emulator's own, not a board's.
        run.latency_us = None
        del run.environment["peak_rss_bytes"]
        if artifact.notes.get("arena_is_resident"):
            del run.observed_bytes["arena"]
        if plugin:
            run.instructions = _counts(counts, len(images), target.name)
    return run


@contextmanager
def placed(artifact: Artifact) -> Iterator[Path]:
    """A folder with all files of the artifact, as on a board: libraries lie beside who needs them.

    In the cache, where builds may be executed and a link takes the place of a copy.
    """
    with tempfile.TemporaryDirectory(dir=cache_dir("run")) as name:
        for path in (artifact.executable, *artifact.files):
            try:
                os.link(path, Path(name, path.name))
            except OSError:  # another file system
                shutil.copy(path, name)
        yield Path(name)


def _run(prefix: list[str], folder: Path, artifact: Artifact, target: Target, images: np.ndarray,
         threads: int) -> BoardRun:
    data = folder / "images.bin"
    data.write_bytes(np.ascontiguousarray(images, np.uint8).tobytes())
    argv = [*prefix, *artifact.command(str(folder), str(data), threads)]
    output = process.lines(argv, target.name, DEADLINE_S, IDLE_S)
    return read_runner(output, len(images), target.name)


def _counts(path: Path, images: int, name: str) -> list[int]:
    """One count an image, as the plug-in wrote them."""
    counts = [int(line) for line in path.read_text().split()]
    if len(counts) != images:
        raise EdgesvitError(f"{name}: {len(counts)} instruction counts for {images} images")
    return counts


def counting_plugin() -> Path:
    """The QEMU plug-in that counts instructions between two addresses."""
    folder = shipped("firmware") / "emulation"
    return build("cc", [folder / "count_instructions.c"], ["-O2", "-shared", "-fPIC"],
                 "libcount.so", depends=[folder / "qemu_plugin.h"])


def plugin_flags(emulator: list[str], runner: Path, counts: Path) -> list[str]:
    """For `emulator`: write to `counts` what each inference of `runner` takes; [] if it cannot."""
    plugin = counting_plugin()
    begin, end = (_symbol(runner, f"edgesvit_roi_{edge}") for edge in ("begin", "end"))
    flags = ["-plugin", f"{plugin},begin={begin:#x},end={end:#x},out={counts}"]
    try:  # a runner without arguments prints its usage and fails; a bad plug-in fails otherwise
        list(process.lines([*emulator, *flags, str(runner)], "probe", 30, 30))
    except EdgesvitError as error:
        return flags if "usage" in error.message else []
    return []


def _symbol(elf: Path, name: str) -> int:
    """The address of a symbol, from the ELF file's own table."""
    for line in process.lines([need("nm"), str(elf)], "nm", 30, 30):
        address, _, symbol = line.split(maxsplit=2) if line[0] != " " else ("0", "", "")
        if symbol == name:
            return int(address, 16)
    raise EdgesvitError(f"{elf.name} has no symbol {name}")
