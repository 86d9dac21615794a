"""Child processes that never outlive us and never make us wait without a deadline."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import IO

from edgesvit.errors import EdgesvitError, Unreachable

_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec a lock that another thread held would never open.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
_started: weakref.WeakSet[subprocess.Popen] = weakref.WeakSet()
_ending = threading.Event()


def _die_with_parent() -> None:
    # Linux only: the kernel kills the child when the thread that started it ends for whatever
    # reason, so an emulator cannot be left behind by a crash that skips every `finally`.
    if _prctl:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv: Sequence[str], **popen) -> subprocess.Popen:
    """Start `argv` in a process group of its own; it is killed when this process dies.

    The group of its own keeps a Ctrl-C in the terminal from reaching the child before we have
    written what we know; `stop` ends the whole group. Raises KeyboardInterrupt while `ending`.
    """
    if _ending.is_set():
        raise KeyboardInterrupt
    process = subprocess.Popen(
        list(argv), preexec_fn=_die_with_parent, start_new_session=True, **popen)
    _started.add(process)
    return process


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """While in it nothing new is started, by any thread."""
    _ending.set()
    try:
        yield
    finally:
        _ending.clear()


def stop_all() -> None:
    """End every process that was started here and still runs, whoever waits for it."""
    for process in list(_started):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


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


def lines(argv: Sequence[str], what: str, deadline_s: float, idle_s: float) -> Iterator[str]:
    """Run `argv` and yield its stdout lines as they come, without their newline.

    Raises Unreachable when nothing comes for `idle_s`, when `deadline_s` passes, or when a signal
    ends the process; EdgesvitError with its last words when it exits with another status. The
    process is gone when the generator is, however that ends.
    """
    with tempfile.TemporaryFile() as errors:
        process = start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        try:
            rest = yield from read_lines(process, what, deadline_s, idle_s)
            _finish(process, what, errors)
        finally:
            stop(process)
    if rest:
        yield rest


def read_lines(process: subprocess.Popen, what: str, deadline_s: float, idle_s: float
               ) -> Iterator[str]:
    """The complete lines of stdout as they come; returns what follows the last newline."""
    deadline, pending = time.monotonic() + deadline_s, b""
    descriptor = process.stdout.fileno()
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise Unreachable(f"{what}: not done after {deadline_s:g} s", "try fewer --images")
        if not select.select([descriptor], [], [], min(idle_s, left_s))[0]:
            if idle_s < left_s:
                raise Unreachable(f"{what}: silent for {idle_s:g} s",
                                  "is it overloaded or hot? run it again")
            continue
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return pending.decode(errors="replace")
        *complete, pending = (pending + chunk).split(b"\n")
        for line in complete:
            yield line.decode(errors="replace")


def _finish(process: subprocess.Popen, what: str, errors: IO[bytes]) -> None:
    try:
        status = process.wait(5)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{what}: closed its output but does not end") from None
    if status < 0:
        raise Unreachable(f"{what}: ended by {signal.Signals(-status).name}", "run it again")
    if status:
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip().splitlines()
        raise EdgesvitError(f"{what}: {words[-1] if words else f'exit status {status}'}")
