"""A Linux board behind ssh, real or emulated: the same steps for both."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np

from edgesvit.boards.hosts import host_for
from edgesvit.boards.qemu_linux import emulated_board
from edgesvit.boards.runner import DEADLINE_S, IDLE_S
from edgesvit.boards.ssh import SshBoard
from edgesvit.lower.native import lower
from edgesvit.measure.run import BoardRun, read_runner
from edgesvit.targets import Target

FOLDER = ".cache/edgesvit"  # on the board, in the user's home


def run_ssh(target: Target, program: Path, images: np.ndarray, note: Callable[[str], None],
            threads: int = 1) -> BoardRun:
    """Copy runner, program and images to the board, run there, bring the lines back."""
    with _board(target, note) as board, tempfile.TemporaryDirectory() as folder:
        board.connect()
        artifact = lower(program, target)
        data = Path(folder, "images.bin")
        data.write_bytes(np.ascontiguousarray(images, np.uint8).tobytes())
        board.put([artifact.executable, program, data], FOLDER)
        runner, *files = (f"{FOLDER}/{path.name}" for path in (artifact.executable, program, data))
        argv = [runner, "--threads", str(threads), *files]
        before = board.describe()
        run = read_runner(board.run(argv, DEADLINE_S, IDLE_S), len(images), target.name)
        run.environment |= {"before": before, "after": board.describe()}
    run.linked_bytes = artifact.linked_bytes
    if target.emulator:
        run.latency_us = None  # the clock is the emulator's speed
    return run


def _board(target: Target, note: Callable[[str], None]) -> AbstractContextManager[SshBoard]:
    if target.emulator:
        return emulated_board(target, note)
    entry = host_for(target.name)
    return closing(SshBoard(entry.host, entry.port, entry.options))
