"""Put an artifact on a board, run images there, bring back what it did: one entry for all."""

import re
import subprocess
from collections.abc import Callable

import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.compile import need
from edgesvit.measure.run import BoardRun
from edgesvit.targets import Target

Note = Callable[[str], None]  # told about slow steps
Progress = Callable[[int], None]  # told how many images are done


def run(target: Target, artifact: Artifact, images: np.ndarray, note: Note, progress: Progress,
        threads: int = 1) -> BoardRun:
    """Run `images` uint8 [n, H, W, C] through what was lowered for `target`, there.

    Boards with Linux use `threads` threads for one image, microcontrollers have one.
    Raises Unreachable, DoesNotFit or EdgesvitError; whatever happens, no process is left behind.
    """
    # Imported where they are used: a run on the host needs neither ssh nor a serial port.
    match target.transport:
        case "local":
            from edgesvit.boards.runner import run_native
            board = run_native(target, artifact, images, threads)
        case "qemu-user":
            from edgesvit.boards.runner import run_qemu_user
            board = run_qemu_user(target, artifact, images, threads)
        case "ssh":
            from edgesvit.boards.over_ssh import run_ssh
            board = run_ssh(target, artifact, images, note, threads)
        case _:
            from edgesvit.boards.over_serial import run_serial
            board = run_serial(target, artifact, images, note, progress)
    board.linked_bytes = artifact.linked_bytes
    if target.emulator:
        board.environment["emulator"] = version(target.emulator.program)
    progress(len(images))
    return board


def version(program: str) -> str:
    """An emulator and its version, as it tells it."""
    said = subprocess.run([need(program), "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version ([\d.]+)", said)
    if not match:
        raise EdgesvitError(f"{program} does not tell its version")
    return f"{program} {match[1]}"
