"""Child processes that never outlive us and never make us wait without a deadline."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # Linux only: the kernel kills the child when this process ends for whatever reason, so an
    # emulator cannot be left behind by a crash that skips every `finally`.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv: Sequence[str], **popen) -> subprocess.Popen:
    """Start `argv` in a process group of its own; it is killed when this process dies.

    The group of its own keeps a Ctrl-C in the terminal from reaching the child before we have
    written what we know; `stop` ends the whole group.
    """
    return subprocess.Popen(
        list(argv), preexec_fn=_die_with_parent, start_new_session=True, **popen)


def stop(process: subprocess.Popen, grace_s: float = 2.0) -> None:
    """End the process and its group: SIGTERM, `grace_s` seconds, SIGKILL. Never raises."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
            break
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
