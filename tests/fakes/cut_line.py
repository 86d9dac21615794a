"""A TCP line to a board that is cut after so many bytes, and deployments over it."""

import contextlib
import random
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from edgesvit.boards.hosts import boards_file
from edgesvit.boards.over_ssh import FOLDER, run_ssh
from edgesvit.boards.ssh import SshBoard
from edgesvit.errors import Unreachable
from edgesvit.lower.artifact import Artifact
from edgesvit.targets import Target

EDGE_BYTES = 12000  # about what passes before, and after, the files: a third of the cuts each


class CutLine:
    """Forwards 127.0.0.1:`port` to `board_port`; a connection ends once `cut_after` bytes of all
    that passes, either way, have passed. None: it holds."""

    def __init__(self, board_port: int):
        self.passed, self.cut_after = 0, None
        self._board_port = board_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", self._board_port))
        other = {near: far, far: near}
        with near, far, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            for end in other:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(16384)
                    if self.cut_after is not None:
                        data = data[:max(self.cut_after - self.passed, 0)]
                    other[key.fileobj].sendall(data)
                    self.passed += len(data)
                    if not data or self.passed == self.cut_after:
                        return


@contextlib.contextmanager
def cut_line(board: SshBoard, target: Target) -> Iterator[CutLine]:
    """`target` in the user's boards.toml (XDG_CONFIG_HOME must be a test's own) behind a line that
    can be cut, at whose end is `board`."""
    options = list(board._options)
    at = next(i for i, word in enumerate(options) if word.startswith("Port="))
    line = CutLine(int(options[at].removeprefix("Port=")))
    words = ", ".join(msgspec.json.encode(word).decode() for word in
                      [*options[:at - 1], *options[at + 1:]])
    boards_file().parent.mkdir(parents=True, exist_ok=True)
    boards_file().write_text(f'[{target.name}]\nhost = "{board.host}"\nport = {line.port}\n'
                             f"options = [{words}]\n")
    try:
        yield line
    finally:
        line.close()


def cuts(board: SshBoard, target: Target, artifact: Artifact, images: np.ndarray,
         expected: np.ndarray, count: int, seed: int) -> Iterator[dict]:
    """Deploy `count` times over a line that is cut at a random moment, then once more over one that
    holds; yields what was seen each time. The board is emptied before each.

    `cut_after` of the `whole_bytes` of a deployment the line was cut, `error` is what was said,
    `there` the files that had arrived, `kept` those that the rerun did not touch.
    """
    chance = random.Random(seed)

    def deploy() -> None:
        got = run_ssh(target, artifact, images, lambda text: None).logits
        np.testing.assert_array_equal(got, expected)

    with cut_line(board, target) as line:
        _empty(board)
        deploy()
        whole = line.passed
        for _ in range(count):
            _empty(board)
            at = chance.choice((chance.randrange(EDGE_BYTES), chance.randrange(whole),
                                whole - chance.randrange(1, EDGE_BYTES)))
            line.passed, line.cut_after = 0, at
            error = _raised(deploy)
            there = _files(board, artifact)
            line.passed, line.cut_after = 0, None
            deploy()
            after = _files(board, artifact)
            yield {"cut_after": at, "error": error, "there": sorted(there), "bytes": line.passed,
                   "whole_bytes": whole,
                   "kept": sorted(name for name in there if there[name] == after[name]),
                   "after": sorted(after)}


def _raised(deploy: Callable[[], None]) -> Unreachable | None:
    try:
        deploy()
    except Unreachable as error:
        return error
    return None


def _empty(board: SshBoard) -> None:
    list(board.run(["rm", "-rf", FOLDER], 60, 60))


def _files(board: SshBoard, artifact: Artifact) -> dict[str, str]:
    """Inode and time of each whole file of the artifact on the board: a copy changes them."""
    names = [Path(path).name for path in (artifact.executable, *artifact.files)]
    told = board.run(["sh", "-c", 'mkdir -p "$1"; cd "$1"; shift; stat -c "%n %i %Y" "$@" '
                      "2>/dev/null; true", "sh", FOLDER, *names], 60, 60)
    return dict(line.split(" ", 1) for line in told)
