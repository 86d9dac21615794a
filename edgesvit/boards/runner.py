"""Run the Linux board runner on this machine: natively, or under QEMU's user-mode emulation."""

import tempfile
from pathlib import Path

import numpy as np

from edgesvit.boards import process
from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import build, need
from edgesvit.lower.native import Artifact, lower
from edgesvit.measure.run import BoardRun, read_runner
from edgesvit.resources import shipped
from edgesvit.targets import Target

DEADLINE_S = 3600.0
IDLE_S = 120.0


def run_native(target: Target, program: Path, images: np.ndarray, threads: int = 1) -> BoardRun:
    """Run here, on the processor we have."""
    return _run([], lower(program, target), target, program, images, threads)


def run_qemu_user(target: Target, program: Path, images: np.ndarray, threads: int = 1
                  ) -> BoardRun:
    """Run a foreign runner under `qemu-<arch> -cpu`, counting instructions with our plug-in.

    Without a plug-in that loads (another QEMU version) the count is None, never a guess.
    """
    artifact = lower(program, target)
    emulator = [need(target.emulator.program), "-cpu", target.emulator.cpu]
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "counts")
        plugin = _plugin_flags(emulator, artifact.executable, counts)
        run = _run([*emulator, *plugin], artifact, target, program, images, threads)
        # Clock and resident memory under emulation are the emulator's own, not a board's.
        run.latency_us = None
        del run.environment["peak_rss_bytes"]
        if plugin:
            run.instructions = [int(line) for line in counts.read_text().split()]
            if len(run.instructions) != len(images):
                raise EdgesvitError(f"{target.name}: {len(run.instructions)} instruction counts "
                                    f"for {len(images)} images")
    return run


def _run(prefix: list[str], artifact: Artifact, target: Target, program: Path,
         images: np.ndarray, threads: int) -> BoardRun:
    with tempfile.NamedTemporaryFile(suffix=".images") as file:
        file.write(np.ascontiguousarray(images, np.uint8).tobytes())
        file.flush()
        argv = [*prefix, str(artifact.executable), "--threads", str(threads), str(program),
                file.name]
        output = process.lines(argv, target.name, DEADLINE_S, IDLE_S)
        run = read_runner(output, len(images), target.name)
    run.linked_bytes = artifact.linked_bytes
    return run


def counting_plugin() -> Path:
    """The QEMU plug-in that counts instructions between two addresses."""
    folder = shipped("firmware") / "emulation"
    return build("cc", [folder / "count_instructions.c"], ["-O2", "-shared", "-fPIC"],
                 "libcount.so", depends=[folder / "qemu_plugin.h"])


def _plugin_flags(emulator: list[str], runner: Path, counts: Path) -> list[str]:
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
