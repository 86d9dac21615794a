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
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.glibc import require_glibc
from edgesvit.measure.run import BoardRun, read_runner
from edgesvit.targets import Target

FOLDER = ".cache/edgesvit"  # on the board, in the user's home


def run_ssh(target: Target, artifact: Artifact, images: np.ndarray, note: Callable[[str], None],
            threads: int = 1) -> BoardRun:
    """Copy what the board lacks of the artifact, and the images; run there, bring lines back."""
    with ssh_board(target, note) as board, tempfile.TemporaryDirectory() as folder:
        board.connect()
        before = board.describe()
        require_glibc(artifact.glibc, before["glibc"], target.name)
        data = Path(folder, "images.bin")
        data.write_bytes(np.ascontiguousarray(images, np.uint8).tobytes())
        files = [artifact.executable, *artifact.files, data]
        copied = board.put(files, FOLDER)
        argv = artifact.command(FOLDER, f"{FOLDER}/{data.name}", threads)
        run = read_runner(board.run(argv, DEADLINE_S, IDLE_S), len(images), target.name)
        run.environment |= {"before": before, "after": board.describe(), "copied_bytes": sum(
            path.stat().st_size for path in files if path.name in copied)}
    if target.emulator:
        run.latency_us = None  # the clock is the emulator's speed
    return run


def ssh_board(target: Target, note: Callable[[str], None]) -> AbstractContextManager[SshBoard]:
    """An emulated board, or the user's own; `connect` opens it."""
    if target.emulator:
        return emulated_board(target, note)
    entry = host_for(target.name)
    return closing(SshBoard(entry.host, entry.port, entry.options))
