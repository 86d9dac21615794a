"""A microcontroller board in QEMU, reached through its serial port like a real one."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edgesvit.boards.process import start, stop
from edgesvit.boards.serial import Port, open_port
from edgesvit.errors import Unreachable
from edgesvit.lower.compile import need
from edgesvit.targets import Target


@contextlib.contextmanager
def emulated_mcu(target: Target, elf: Path) -> Iterator[Port]:
    """Boot `elf` on the emulated board of `target`; yields its open serial port.

    Raises Unreachable with the emulator's own words when it ends before its time. The emulator is
    gone when the context ends, whatever happened.
    """
    with emulator(target, elf) as (url, process):
        try:
            with open_port(url) as port:
                port.name = target.name
                yield port
        except Unreachable as error:
            raise _explained(error, process) from None


@contextlib.contextmanager
def emulator(target: Target, elf: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The emulator alone: where its serial port can be opened, once, and its process."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        # Accepted connections inherit it; with Nagle's algorithm each line would take 45 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The emulator gets the socket, not a port number that somebody else could take first.
        process = start(_argv(target, elf, listener.fileno()), pass_fds=(listener.fileno(),),
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE)
        url = f"socket://127.0.0.1:{listener.getsockname()[1]}"
    try:  # only the emulator's copy of the socket is left: when it dies, the connection breaks
        yield url, process
    finally:
        stop(process)


def _argv(target: Target, elf: Path, listener_fd: int) -> list[str]:
    emulator = target.emulator
    argv = [need(emulator.program), "-machine", emulator.machine, "-nodefaults",
            "-display", "none", "-kernel", os.fspath(elf),
            "-chardev", f"socket,id=uart,fd={listener_fd},server=on,wait=on",
            "-serial", "chardev:uart"]
    if emulator.icount_shift is not None:
        # Virtual time is a function of the instructions executed: the same run, the same count.
        argv += ["-icount", f"shift={emulator.icount_shift},sleep=off"]
    return argv


def _explained(error: Unreachable, process: subprocess.Popen) -> Unreachable:
    """`error` with the emulator's last words, if it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(1.0)
        words = process.stderr.read().decode(errors="replace").strip().splitlines()
        if code < 0:  # killed: its last words are from before and explain nothing
            how = signal.Signals(-code).name
        else:
            how = f"exit status {code}" + (f": {words[-1]}" if words else "")
        return Unreachable(f"{error.message} (the emulator has ended: {how})",
                           error.hint or "run it again")
    return error
