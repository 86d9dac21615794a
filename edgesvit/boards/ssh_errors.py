"""What the ssh client says, turned into what the user can do about it."""

import re

from edgesvit.boards.hosts import boards_file
from edgesvit.errors import Unreachable

# The first row that matches stderr wins; {ssh} is the command that reaches the board by hand.
_REASONS = (
    (r"Could not resolve hostname",
     "no host has this name",
     'give its address in {file}: {key}.host = "pi@192.168.1.20"'),
    (r"IDENTIFICATION HAS CHANGED|Host key for .* has changed",
     "its host key is not the one known: another machine, or a reinstalled board",
     "if you reinstalled it: ssh-keygen -R {name}   then once: {ssh}"),
    (r"No .* host key is known|Host key verification failed",
     "its host key is not known yet",
     "once, to look at the key and accept it: {ssh}"),
    (r"Permission denied|Too many authentication failures",
     "refuses the login",
     "log in by key, without a password: ssh-copy-id {words}"),
    (r"Connection refused",
     "nothing listens on its ssh port",
     "on the board: sudo systemctl enable --now ssh"),
    (r"timed out|No route to host|Network is unreachable|Host is down",
     "does not answer",
     "is the board powered and on this network? try: {ssh} true"),
    (r"kex_exchange_identification|banner exchange|Bad remote protocol|invalid format"
     r"|no matching|Bad packet length",
     "something answers, but no ssh server we can speak to",
     "check host and port: {ssh} -v true"),
)


def explain(stderr: str, host: str, by_hand: str = "", port: int | None = None) -> Unreachable:
    """The error for an ssh client that could not connect to `host` and said `stderr`.

    `by_hand` is the command that a person would type to get there, "" for plain `ssh host`.
    """
    ssh, name = by_hand or f"ssh {host}", host.rpartition("@")[2]
    for pattern, reason, hint in _REASONS:
        if re.search(pattern, stderr):
            # A plain name is the target's own: no entry says otherwise.
            key = host if re.fullmatch(r"[A-Za-z0-9_-]+", host) else "TARGET"
            return Unreachable(f"{host}: {reason}", hint.format(
                ssh=ssh, words=ssh.removeprefix("ssh "), key=key, file=boards_file(),
                name=f"'[{name}]:{port}'" if port else name))
    return Unreachable(f"{host}: {last_line(stderr) or 'ssh gave no reason'}",
                       f"try: {ssh} -v true")


def last_line(text: str) -> str:
    """The last line of `text` that holds anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
