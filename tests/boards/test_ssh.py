"""The ssh transport where no board answers: the real client, local servers that misbehave."""

import contextlib
import os
import socket
import threading
import time
import tomllib
from collections.abc import Iterator

import pytest

from edgesvit.boards.ssh import SshBoard
from edgesvit.boards.ssh_errors import explain
from edgesvit.errors import Unreachable, UsageError
from tests.fakes.serial_boards import needs
from tests.processes import children

ALONE = ("-F", "none", "-o", "UserKnownHostsFile=/dev/null")


@contextlib.contextmanager
def server(greeting: bytes | None) -> Iterator[int]:
    """A TCP server that says `greeting` to everyone, then nothing; None hangs up at once."""
    kept = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                if greeting is None:
                    connection.close()
                else:
                    connection.sendall(greeting)
                    kept.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in kept:
            connection.close()


def refused(port: int | None, host: str = "127.0.0.1", timeout_s: float = 10) -> Unreachable:
    """What connecting raises; it takes less than 15 s and leaves nothing behind."""
    needs("ssh", "scp")
    before, start_s = children(), time.monotonic()
    with pytest.raises(Unreachable) as caught, SshBoard(host, port, ALONE, timeout_s) as board:
        board.connect()
    assert time.monotonic() - start_s < 15
    assert children() == before
    assert "\n" not in caught.value.message and host in caught.value.message
    assert caught.value.exit_code == 4
    return caught.value


def test_closed_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "nothing listens" in refused(port).message


def test_unknown_name():
    error = refused(None, "no-such-board.invalid")
    assert "no host has this name" in error.message
    assert "boards.toml: TARGET.host = " in error.hint


def test_a_target_without_an_entry_is_told_how_to_write_one():
    hint = explain("ssh: Could not resolve hostname rpi5: Name or service not known", "rpi5").hint
    assert tomllib.loads(hint.split(": ", 1)[1]) == {"rpi5": {"host": "pi@192.168.1.20"}}


def test_server_that_never_speaks():
    with server(b"") as port:
        assert "does not answer" in refused(port, timeout_s=2).message


def test_server_that_goes_silent_in_the_handshake():
    with server(b"SSH-2.0-statue\r\n") as port:
        assert "does not answer" in refused(port, timeout_s=2).message


@pytest.mark.parametrize("greeting", [b"\x00\xff" * 300 + b"\r\n", b"SSH-1.0-old\r\n", None])
def test_server_that_is_no_ssh_server(greeting):
    with server(greeting) as port:
        assert "no ssh server we can speak to" in refused(port, timeout_s=2).message


@pytest.mark.parametrize(("said", "reason", "hint"), [
    ("ssh: Could not resolve hostname rpi5: Name or service not known", "no host has",
     'TARGET.host = "'),
    ("ssh: connect to host rpi5 port 22: No route to host", "does not answer", "powered"),
    ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
     "not the one known", "ssh-keygen -R rpi5"),
    ("Host key verification failed.", "not known yet", "ssh pi@rpi5"),
    ("pi@rpi5: Permission denied (publickey,password).", "refuses the login", "ssh-copy-id"),
    ("Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures",
     "refuses the login", "ssh-copy-id"),
    ("Warning: something\nBad owner on config", "Bad owner on config", "ssh pi@rpi5 -v"),
    ("", "no reason", "ssh pi@rpi5 -v"),
])
def test_what_ssh_says_is_explained(said, reason, hint):
    error = explain(said, "pi@rpi5")
    assert reason in error.message and hint in error.hint


def test_names_that_a_shell_could_read_otherwise_are_refused(tmp_path):
    for name in ("a b", "$(id)", "-rf", "a'b"):
        with pytest.raises(UsageError, match="cannot be a name"):
            SshBoard("rpi5").put([tmp_path / name], "x")
    with pytest.raises(UsageError, match="one name"):
        SshBoard("rpi5").put([tmp_path / "a", tmp_path / "b" / "a"], "x")


def test_closing_twice_or_unopened_is_harmless():
    board = SshBoard("rpi5")
    board.close()
    board.close()


def test_a_board_that_is_gone_is_told_by_every_method(tmp_path):
    needs("ssh", "scp")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    file = tmp_path / "a"
    file.write_bytes(os.urandom(10))
    board = SshBoard("127.0.0.1", port, ALONE)
    for call in (board.describe, lambda: board.put([file], "x"),
                 lambda: list(board.run(["true"], 5, 5))):
        with pytest.raises(Unreachable, match="nothing listens"):
            call()
