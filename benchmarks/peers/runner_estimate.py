"""Cycles that llvm-mca predicts for a whole program on our own aarch64 runner (see mca.py)."""

import bisect
import hashlib
import json
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgesvit.lower.compile import need
from edgesvit.lower.native import linux_runner
from edgesvit.resources import cache_dir
from edgesvit.targets import load
from peers import mca

TARGET = "rpi5"


@dataclass(frozen=True)
class Function:
    """What a function, with all that was inlined into it, took of one inference."""

    name: str
    instructions: int
    cycles: float


def functions(program: bytes, image: np.ndarray) -> list[Function]:
    """Of one inference on one core, the slowest first; needs `mca.tool`; cached."""
    runner = linux_runner(load(TARGET))
    key = hashlib.sha256("\0".join([runner.parent.name, mca.tool()]).encode())
    key.update(program + image.tobytes())
    cached = cache_dir("runner-estimates") / f"{key.hexdigest()[:24]}.json"
    if not cached.exists():
        cached.write_text(json.dumps(_functions(runner, program, image)))
    return [Function(*row) for row in json.loads(cached.read_text())]


def _functions(runner: Path, program: bytes, image: np.ndarray) -> list[tuple[str, int, float]]:
    symbols = _symbols(runner)
    edges = {name: address for address, name in symbols if name.startswith("edgesvit_roi_")}
    options = "".join(f",{edge}={edges[f'edgesvit_roi_{edge}']:#x}" for edge in ("begin", "end"))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "program.esv"), Path(folder, "images")]
        for file, data in zip(files, (program, image.tobytes()), strict=True):
            file.write_bytes(data)
        blocks = mca.blocks(runner, list(map(str, files)), options)
    starts = [address for address, _ in symbols]
    instructions, cycles = Counter(), Counter()
    for block in blocks:
        name = symbols[bisect.bisect(starts, block.address) - 1][1]
        instructions[name] += block.instructions
        cycles[name] += block.cycles
    return [(name, instructions[name], count) for name, count in cycles.most_common()]


def _symbols(elf: Path) -> list[tuple[int, str]]:
    """(address, name) of every function, in order."""
    listing = subprocess.run([need("nm"), "-n", str(elf)], capture_output=True, text=True,
                             check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return [(int(row[0], 16), row[2]) for row in rows
            if len(row) == 3 and row[1] in "tTwW" and not row[2].startswith("$")]
