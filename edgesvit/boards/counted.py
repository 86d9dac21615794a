"""Instructions of an inference, counted on an emulated board."""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgesvit.boards.run import run
from edgesvit.lower.runtimes import lower
from edgesvit.program import file, interpret
from edgesvit.program.ops import Check, Program
from edgesvit.targets import Target


def counted(program: Program, target: Target, images: np.ndarray) -> float | None:
    """The median over `images` uint8 [n, H, W, C], on the target's emulator.

    None where nothing counts there. Raises DoesNotFit, or EdgesvitError where the emulator or a
    compiler is not installed.
    """
    if target.emulator is None or target.transport == "ssh":  # there a whole system is emulated
        return None
    if program.check is None:
        program = replace(program, check=Check(images[0], interpret.run(program, images[0])))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.esv")
        file.write(program, path)
        board = run(target, lower(path, target, "native"), images, lambda text: None,
                    lambda done: None)
    return statistics.median(board.instructions) if board.instructions else None
