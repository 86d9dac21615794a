"""Processes as /proc tells of them; they may end while we look."""

import contextlib
import time
from pathlib import Path


def children(parent: int | str = "self") -> set[int]:
    """The processes whose parent it is, ended ones that nobody waited for included."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")  # each thread has its own
    return {int(pid) for task in tasks for pid in told(task).split()}


def name(pid: int) -> str:
    """The program that it runs (the kernel keeps 15 characters), '' of one that ended."""
    return told(Path(f"/proc/{pid}/comm")).strip()


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds; a zombie has ended."""
    for _ in range(200):
        stat = told(Path(f"/proc/{pid}/stat"))
        if not stat or stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def told(entry: Path) -> str:
    """What the entry says, '' of a process or thread that ended."""
    with contextlib.suppress(OSError):
        return entry.read_text()
    return ""
