"""A Linux board reached with the system's own ssh and scp, the user's configuration and keys."""

import contextlib
import hashlib
import math
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgesvit.boards import board_shell as shell
from edgesvit.boards.hosts import check_host
from edgesvit.boards.process import read_lines, start, stop
from edgesvit.boards.ssh_errors import explain, last_line
from edgesvit.errors import EdgesvitError, Unreachable, UsageError
from edgesvit.lower.compile import need

OPTIONS = {
    "BatchMode": "yes",  # never ask: nobody may be there to answer
    "ServerAliveInterval": "5",  # a cut cable is noticed after 20 s
    "ServerAliveCountMax": "3",
    "ControlPersist": "no",  # the connection is our child, not a daemon
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
# A client whose connection is gone would open one of its own: it must fail at once instead.
CLIENT = ("-o", "ProxyCommand=false")
SHELL_S = 60.0  # a short command on the board: list, hash, rename
SLOWEST_BYTES_PER_S = 65536  # a copy slower than this is given up


class SshBoard:
    """One connection to a board. `close` it, or use it in a `with`: nothing of it stays behind.

    Every method raises Unreachable when the board does not answer or the connection is cut.
    """

    def __init__(self, host: str, port: int | None = None, options: Sequence[str] = (),
                 connect_timeout_s: float = 8):
        check_host(host)
        self.host = host
        self._port = port
        self._options = [*options, *(["-o", f"Port={port}"] if port else [])]
        self._connect_timeout_s = connect_timeout_s
        self._folder: Path | None = None  # our control socket, and what ssh says
        self._master: subprocess.Popen | None = None

    def __enter__(self) -> "SshBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Open the connection that every later command shares; at most 3 s over the time-out."""
        if self._master:
            return
        argv = [need("ssh"), "-M", "-N"]
        need("scp")
        self._folder = _private_folder()
        with open(self._folder / "said", "wb") as said:
            self._master = start([*argv, *self._flags(), self.host], env=_plain_env(),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
        # The client's own time-out does not cover a server that goes silent in the handshake.
        deadline = time.monotonic() + self._connect_timeout_s + 3
        while not (self._folder / "socket").exists():
            if self._master.poll() is not None or time.monotonic() > deadline:
                error = explain(self._said() or "timed out", self.host, self._by_hand(),
                                self._port)
                self.close()
                raise error
            time.sleep(0.02)

    def close(self) -> None:
        """End the connection and remove its files; harmless when there is none."""
        if self._master:
            stop(self._master)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._master = self._folder = None

    def put(self, files: Sequence[Path], folder: str) -> tuple[str, ...]:
        """Copy `files` into `folder`, relative to the home on the board; returns what was copied.

        A file that is there with the same SHA-256 is left alone. The others are copied beside it,
        checked, then renamed: a copy that was cut is never taken for the file, and what arrived
        whole before the cut is not copied again.
        """
        wanted = {shell.safe(path.name): path for path in files}
        if len(wanted) != len(files):
            raise UsageError(f"two files for the board have one name: {', '.join(map(str, files))}",
                             "rename one of them")
        deadline_s = SHELL_S + sum(path.stat().st_size for path in files) / SLOWEST_BYTES_PER_S
        told = self._shell(shell.LOOK, shell.safe(folder), *wanted, deadline_s=deadline_s)
        there, _, arrived = (part.splitlines() for part in f"\n{told}".partition("\n\n"))
        lines = [f"{_sha256(path)}  {name}" for name, path in wanted.items()]
        lines = [line for line in lines if line not in there]
        names = tuple(line.partition("  ")[2] for line in lines if line not in arrived)
        if names:
            self._copy([wanted[name] for name in names], folder, deadline_s)
        if lines:
            self._shell(shell.COMMIT, folder, *lines, deadline_s=deadline_s)
        return names

    def run(self, argv: Sequence[str], deadline_s: float, idle_s: float) -> Iterator[str]:
        """Run a program on the board; yields its stdout lines as they come, without newline.

        It starts in the home folder and ends with the generator. Raises Unreachable when the
        connection is cut, nothing comes for `idle_s`, or it is not done after `deadline_s`;
        EdgesvitError with its last words when it fails.
        """
        what = f"{self.host}: {os.path.basename(argv[0])}"
        remote = shell.command(shell.WATCHED, str(math.ceil(deadline_s) + 5), *argv)
        complete = False
        with tempfile.TemporaryFile() as errors:
            process = start(self._ssh(remote), env=_plain_env(), stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=errors)
            try:
                rest = yield from read_lines(process, what, deadline_s, idle_s)
                status = process.wait(5)
                complete = True
            except subprocess.TimeoutExpired:
                raise Unreachable(f"{what}: closed its output but does not end") from None
            finally:
                stop(process)
                if not complete:  # some servers mix up a session that dies with the next one
                    self.close()
            errors.seek(0)
            self._judge(status, errors.read().decode(errors="replace"), what)
        if rest:
            yield rest

    def describe(self) -> dict[str, str | int | float | list[str] | None]:
        """What the board says of itself; None where it cannot say.

        machine, kernel, glibc (version), model, governor, features (list), cores, temperature_c,
        perf_event_paranoid (unprivileged programs may count their instructions up to 2).
        """
        told = dict(line.partition("=")[::2] for line in self._shell(shell.DESCRIBE).splitlines())
        words = {key: told.get(key) or None
                 for key in ("machine", "kernel", "glibc", "model", "governor")}
        paranoid, temperature_mc = (_integer(told.get(key, ""))
                                    for key in ("perf_event_paranoid", "temperature_mc"))
        return {**words, "features": told.get("features", "").split(),
                "cores": _integer(told.get("cores", "")), "perf_event_paranoid": paranoid,
                "temperature_c": None if temperature_mc is None else temperature_mc / 1000}

    def _shell(self, script: str, *arguments: str, deadline_s: float = SHELL_S) -> str:
        return self._finish(self._ssh(shell.command(script, *arguments)), deadline_s, self.host)

    def _copy(self, files: Sequence[Path], folder: str, deadline_s: float) -> None:
        argv = [need("scp"), "-q", *CLIENT, *self._flags(), *map(os.path.abspath, files),
                f"{_bracketed(self.host)}:{folder}/.incoming/"]
        try:
            self._finish(argv, deadline_s, f"{self.host}: copy")
        except Unreachable:
            raise
        except EdgesvitError as error:  # scp's protocol has no word for a full disk
            self._shell(shell.DISCARD, folder)
            hint = f"is the board's disk full? look: {self._by_hand()} df -h ."
            raise EdgesvitError(error.message, hint) from None

    def _finish(self, argv: Sequence[str], deadline_s: float, what: str) -> str:
        """stdout of a client that shares our connection."""
        process = start(argv, env=_plain_env(), stdin=subprocess.DEVNULL, text=True,
                        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            self.close()
            raise Unreachable(f"{what}: not done after {deadline_s:.0f} s",
                              f"is the board overloaded? try: {self._by_hand()} uptime") from None
        finally:
            stop(process)
        self._judge(process.returncode, errors, what)
        return output

    def _judge(self, status: int, errors: str, what: str) -> None:
        """Nothing when a client ended well, otherwise the error that its status stands for."""
        if status == 0:
            return
        # 255 is ssh's own word. scp says 1 for everything, so look at the connection itself; it
        # may end a moment after its clients do.
        if status == 255 or status < 0 or not self._alive(1.0 if status == 1 else 0.0):
            reason = last_line(self._said() or errors) or "ssh gave no reason"
            self.close()
            raise Unreachable(f"{what}: connection lost ({reason})",
                              "check the board's power and network, then run it again")
        reason = last_line(errors) or f"exit status {status}"
        if 128 < status <= 192:
            reason = f"killed by signal {status - 128}"
        raise EdgesvitError(f"{what}: {reason}", f"look on the board: {self._by_hand()}")

    def _alive(self, patience_s: float = 0.0) -> bool:
        """Whether the connection still stands after waiting this long for its end."""
        if self._master is None:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._master.wait(patience_s)
        return self._master.poll() is None

    def _ssh(self, remote: str) -> list[str]:
        """A client of our connection that runs `remote`; a connection that is gone is made anew."""
        if not self._alive():
            self.close()
            self.connect()
        return [need("ssh"), *CLIENT, *self._flags(), self.host, remote]

    def _flags(self) -> list[str]:
        own = {**OPTIONS, "ControlPath": f"{self._folder}/socket",
               "ConnectTimeout": str(math.ceil(self._connect_timeout_s))}
        return [*self._options, *(part for key, value in own.items()
                                  for part in ("-o", f"{key}={value}"))]

    def _by_hand(self) -> str:
        """What a person types to get on the board."""
        return shlex.join(["ssh", *self._options, self.host])

    def _said(self) -> str:
        """What the client that holds the connection wrote to stderr."""
        return (self._folder / "said").read_text(errors="replace") if self._folder else ""


def _bracketed(host: str) -> str:
    """`host` as scp takes it: an IPv6 address would end at its first colon."""
    user, at, name = host.rpartition("@")
    return f"{user}{at}[{name}]" if ":" in name else host


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private_folder() -> Path:
    """A folder only we may enter, with a short name: a socket's path holds about 100 characters."""
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="edgesvit-", dir=base if len(base) < 50 else "/tmp"))


def _plain_env() -> dict[str, str]:
    """Our environment with messages in English: they are read by a program."""
    return {**os.environ, "LC_ALL": "C"}
