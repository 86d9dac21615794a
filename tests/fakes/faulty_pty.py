"""A serial line that goes wrong: a pty in front of a board, with one fault in what passes it.

    python faulty_pty.py [--fault DIRECTION:KIND:LINE:COLUMN]
                         --tcp HOST:PORT | --run PROGRAM [ARGUMENT...]

DIRECTION is `request` or `reply`, LINE and COLUMN count from 0, COLUMN -1 is the end of the line,
KIND is one of
    drop    the byte at COLUMN is lost
    flip    one bit of it changes
    cut     the line ends before COLUMN, its end-of-line included
    silent  nothing passes from there on, in either direction, for ever
The first line of stdout is the path of the pty.
"""

import argparse
import os
import select
import socket
import subprocess
import sys
import tty


class Fault:
    """Where the stream is, and what happens to each byte of it."""

    def __init__(self, text: str | None):
        self.direction, self.kind, line, column = (text or "none:none:0:0").split(":")
        self.target = int(line), int(column)
        self.place = {"request": (0, 0), "reply": (0, 0)}
        self.silent = False

    def passed(self, direction: str, data: bytes) -> bytes:
        """What is left of `data`."""
        return b"".join(self._byte(direction, bytes([byte])) for byte in data)

    def _byte(self, direction: str, byte: bytes) -> bytes:
        line, column = self.place[direction]
        self.place[direction] = (line + 1, 0) if byte == b"\n" else (line, column + 1)
        hit = direction == self.direction and line == self.target[0]
        if hit and self.kind == "silent" and column >= self.target[1]:
            self.silent = True
        if self.silent or (hit and self.kind == "cut" and column >= self.target[1]):
            return b""
        if hit and self.target[1] == (-1 if byte == b"\n" else column):
            if self.kind == "drop":
                return b""
            if self.kind == "flip":
                return bytes([byte[0] ^ 4])
        return byte


def connect(arguments: argparse.Namespace) -> tuple[int, int]:
    """File descriptors to read from and write to the board."""
    if arguments.tcp:
        host, port = arguments.tcp.rsplit(":", 1)
        board = socket.create_connection((host, int(port)))
        board.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return (descriptor := board.detach()), descriptor
    child = subprocess.Popen(arguments.run, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return child.stdout.fileno(), child.stdin.fileno()


def relay(master: int, board: tuple[int, int], fault: Fault) -> None:
    """Pass bytes both ways until one end closes."""
    routes = {master: ("request", board[1]), board[0]: ("reply", master)}
    while True:
        for source in select.select(list(routes), [], [])[0]:
            direction, sink = routes[source]
            try:
                data = os.read(source, 4096)
            except OSError:
                return
            if not data:
                return
            if data := fault.passed(direction, data):
                os.write(sink, data)


def main() -> None:
    """Open the pty, say where it is, relay."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fault")
    parser.add_argument("--tcp")
    parser.add_argument("--run", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    master, slave = os.openpty()
    tty.setraw(slave)  # else what the board says before we are opened comes back as an echo
    board = connect(arguments)
    print(os.ttyname(slave), flush=True)
    relay(master, board, Fault(arguments.fault))


if __name__ == "__main__":
    sys.exit(main())
