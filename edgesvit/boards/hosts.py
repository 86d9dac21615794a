"""A user's own boards: host names and serial ports live in a per-user file, not in the package."""

import os
import re
import tomllib
from pathlib import Path

import msgspec

from edgesvit.errors import Unreachable, UsageError

# What ssh takes as a destination and no shell or option parser can take for something else.
_HOST = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*(@[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*)?")


class HostEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of boards.toml."""

    host: str = ""  # an ssh alias, a name, or user@name
    port: int | None = None  # ssh port
    options: tuple[str, ...] = ()  # more arguments for ssh and scp: ["-i", "~/.ssh/board"]
    serial: str = ""  # /dev/ttyACM0, or socket://host:port


def boards_file() -> Path:
    """Where the user names boards: `~/.config/edgesvit/boards.toml`, or below XDG_CONFIG_HOME."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edgesvit" / "boards.toml"


def host_for(target_name: str) -> HostEntry:
    """How to reach the board of a target over ssh; without an entry the target's own name.

    So a `Host rpi5` in ~/.ssh/config is enough. Raises UsageError when the file cannot be used.
    """
    entry = _entry(target_name)
    entry = entry if entry.host else msgspec.structs.replace(entry, host=target_name)
    check_host(entry.host)
    return entry


def serial_port_for(target_name: str) -> str:
    """The serial port of a target's board; Unreachable when the user has not named it."""
    port = _entry(target_name).serial
    if not port:
        raise Unreachable(f"{target_name}: its serial port is not known",
                          f'write in {boards_file()}: {target_name}.serial = "/dev/ttyACM0"')
    return port


def entries() -> dict[str, dict[str, str]]:
    """Host and serial port of every board the user has named, by target."""
    try:
        names = tomllib.loads(boards_file().read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}  # who uses an entry is told what is wrong with it
    found = {name: _entry(name) for name in names}
    return {name: {"host": entry.host, "serial": entry.serial} for name, entry in found.items()}


def check_host(host: str) -> None:
    """UsageError unless `host` is a name, an address or user@ one of them."""
    if not _HOST.fullmatch(host):
        raise UsageError(f"{host!r} is no host name", "give an ssh alias, a name or user@name")


def _entry(target_name: str) -> HostEntry:
    path = boards_file()
    try:
        tables = tomllib.loads(path.read_text())
        return msgspec.convert(tables.get(target_name, {}), HostEntry)
    except FileNotFoundError:
        return HostEntry()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError,
            msgspec.ValidationError) as error:
        raise UsageError(f"{path}: [{target_name}]: {error}",
                         f'an entry looks like: {target_name}.host = "pi@192.168.1.20"') from None
