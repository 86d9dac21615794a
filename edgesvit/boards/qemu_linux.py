"""A Linux board in QEMU, reached over ssh like a real one."""

import base64
import contextlib
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgesvit.boards.board_image import READY, BoardImage, board_image, cpio, file_entry
from edgesvit.boards.process import start, stop
from edgesvit.boards.ssh import SshBoard
from edgesvit.boards.ssh_errors import last_line
from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.lower.compile import need
from edgesvit.targets import Target

BOOT_S = 90.0
MEMORY_MIB = 1024  # of the emulated machine; the budget of a deployment is the target file's
_PORT_TAKEN = "Could not set up host forwarding"


@contextlib.contextmanager
def emulated_board(target: Target, note: Callable[[str], None]) -> Iterator[SshBoard]:
    """Boot the emulated board of `target`; yields a connected SshBoard.

    Its keys are made for this run, and its host key is checked. Raises EdgesvitError when the image
    cannot be built, Unreachable with QEMU's own words when the emulator ends before its time. The
    emulator is gone when the context ends, whatever happened.
    """
    need(target.emulator.program)
    image = board_image(note)
    note(f"booting {target.name}")
    with tempfile.TemporaryDirectory(prefix="edgesvit-qemu-") as folder:
        work = Path(folder)
        options = _keys(work, target.name)
        initrd = _initrd(work, image)
        with _emulator(target, image, initrd, work) as (process, port):
            board = SshBoard(target.name, port, options)
            try:
                board.connect()
                yield board
            except Unreachable as error:
                raise _explained(error, process, work) from None
            finally:
                board.close()


def _keys(work: Path, name: str) -> list[str]:
    """Make the host's and the user's key; returns the ssh options that use and demand them."""
    for key in ("host", "user"):
        made = subprocess.run([need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "",
                               "-f", str(work / key)], capture_output=True, text=True, timeout=60)
        if made.returncode:
            raise EdgesvitError(f"ssh-keygen: {made.stderr.strip()}")
    (work / "known_hosts").write_text(f"{name} {(work / 'host.pub').read_text()}")
    settings = {
        "HostName": "127.0.0.1",
        "User": "root",
        "HostKeyAlias": name,
        "UserKnownHostsFile": work / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentityFile": work / "user",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
    }
    return ["-F", "none", *(part for key, value in settings.items()
                            for part in ("-o", f"{key}={value}"))]


def _initrd(work: Path, image: BoardImage) -> Path:
    """The image's initramfs, followed by a small one that holds this run's keys."""
    base = image.initrd.read_bytes()
    keys = cpio({
        "etc/dropbear/hostkey": file_entry(_dropbear_key(work / "host"), 0o600),
        "root/.ssh/authorized_keys": file_entry((work / "user.pub").read_bytes(), 0o600),
    })
    path = work / "initrd"
    path.write_bytes(base + b"\0" * (-len(base) % 4) + keys)
    return path


def _dropbear_key(path: Path) -> bytes:
    """An unencrypted ed25519 key file of OpenSSH in dropbear's form.

    Both hold, after the key type, seed and public key in one string of 64 bytes; OpenSSH's private
    part has the public key (a string of 32) in between.
    """
    kind = struct.pack(">I", 11) + b"ssh-ed25519"
    raw = base64.b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
    private = raw.rpartition(kind)[2]
    return kind + private[4 + 32:4 + 32 + 4 + 64]


@contextlib.contextmanager
def _emulator(target: Target, image: BoardImage, initrd: Path, work: Path
              ) -> Iterator[tuple[subprocess.Popen, int]]:
    """A running emulator whose ssh server answers, and the port that leads to it."""
    for _ in range(5):
        port = _free_port()
        with open(work / "qemu.log", "wb") as log:
            process = start(_argv(target, image, initrd, work, port), stdin=subprocess.DEVNULL,
                            stdout=log, stderr=log)
        try:
            if _wait(process, port, work, target.name):
                yield process, port
                return
        finally:
            stop(process)
    raise Unreachable(f"{target.name}: no free TCP port on 127.0.0.1")


def _argv(target: Target, image: BoardImage, initrd: Path, work: Path, port: int) -> list[str]:
    emulator = target.emulator
    argv = [
        need(emulator.program), "-machine", emulator.machine or "virt", "-cpu", emulator.cpu,
        "-smp", "1", "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-no-reboot",
        "-kernel", str(image.kernel), "-initrd", str(initrd),
        "-append", "console=ttyAMA0 quiet panic=-1 mitigations=off",
        # The guest reaches nothing; only this machine reaches the guest.
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-device,netdev=net",
        "-serial", f"file:{work / 'serial.log'}",
    ]
    if emulator.icount_shift is not None:
        # Makes the processor's instruction counter exact. With sleep=off an idle guest's clock
        # would run ahead, and each of its time-outs would pass at once.
        argv += ["-icount", f"shift={emulator.icount_shift},sleep=on"]
    return argv


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(process: subprocess.Popen, port: int, work: Path, name: str) -> bool:
    """Wait for the board's ssh server; False when somebody else took the port first."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            if _PORT_TAKEN in _text(work / "qemu.log"):
                return False
            raise _explained(Unreachable(f"{name}: did not start"), process, work)
        # QEMU accepts connections before the guest does; dropbear refuses many at once.
        if READY in _text(work / "serial.log") and _speaks_ssh(port):
            return True
        time.sleep(0.05)
    console = last_line(_text(work / "serial.log")) or "empty"
    raise Unreachable(f"{name}: no ssh server after {BOOT_S:.0f} s; last on its console: {console}",
                      "is this machine overloaded? run it again")


def _speaks_ssh(port: int) -> bool:
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.settimeout(1.0)
            return connection.recv(4).startswith(b"SSH-")
    return False


def _explained(error: Unreachable, process: subprocess.Popen, work: Path) -> Unreachable:
    """`error` with the emulator's end and last words, when that is the reason."""
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return error
    if code < 0:  # killed: its last words are from before and explain nothing
        how = signal.Signals(-code).name
    else:
        words = last_line(_text(work / "qemu.log")) or last_line(_text(work / "serial.log"))
        how = f"exit status {code} {words}".rstrip()
    return Unreachable(f"{error.message}; the emulator has ended: {how}", "run it again")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
