"""Put a program on a board, run it on images there, bring back what it did: one entry for all."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import need
from edgesvit.measure.run import BoardRun
from edgesvit.targets import Target

Note = Callable[[str], None]  # told about slow steps
Progress = Callable[[int], None]  # told how many images are done


def run(target: Target, program: Path, images: np.ndarray, note: Note, progress: Progress,
        threads: int = 1) -> BoardRun:
    """Run `images` uint8 [n, H, W, C] through the .esv file `program` on `target`.

    Boards with Linux use `threads` threads for one image, microcontrollers have one.
    Raises Unreachable, DoesNotFit or EdgesvitError; whatever happens, no process is left behind.
    """
    # Imported where they are used: a run on the host needs neither ssh nor a serial port.
    match target.transport:
        case "local":
            from edgesvit.boards.runner import run_native
            board = run_native(target, program, images, threads)
        case "qemu-user":
            from edgesvit.boards.runner import run_qemu_user
            board = run_qemu_user(target, program, images, threads)
        case "ssh":
            from edgesvit.boards.over_ssh import run_ssh
            board = run_ssh(target, program, images, note, threads)
        case _:
            from edgesvit.boards.over_serial import run_serial
            board = run_serial(target, program, images, note, progress)
    if target.emulator:
        board.environment["emulator"] = _version(target.emulator.program)
    progress(len(images))
    return board


def _version(program: str) -> str:
    said = subprocess.run([need(program), "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version ([\d.]+)", said)
    if not match:
        raise EdgesvitError(f"{program} does not tell its version")
    return f"{program} {match[1]}"
