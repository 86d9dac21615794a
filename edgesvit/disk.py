"""Writing to a disk that may fill up or lose power: all or nothing, and nothing lost."""

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgesvit.errors import EdgesvitError


def write_atomic(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their places, force them to disk, then rename: all old or all new."""
    parts = {path: path.with_name(path.name + ".part") for path in files}

    def write() -> None:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(parts[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)

    def undo() -> None:
        for part in parts.values():
            part.unlink(missing_ok=True)

    _on_disk(next(iter(files)), write, undo)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append `record` as one JSON line; a torn last line of an earlier crash is closed first."""
    line = msgspec.json.encode(record) + b"\n"
    before_bytes = path.stat().st_size if path.exists() else 0

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(b"\n" + line if _is_torn(path, before_bytes) else line)
            file.flush()
            os.fsync(file.fileno())

    def undo() -> None:
        if path.exists():
            os.truncate(path, before_bytes)

    _on_disk(path, write, undo)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file; a line that is no JSON was torn by a crash and is skipped."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            records.append(msgspec.json.decode(line, type=dict))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return records


def _is_torn(path: Path, size_bytes: int) -> bool:
    if not size_bytes:
        return False
    with open(path, "rb") as file:
        file.seek(size_bytes - 1)
        return file.read(1) != b"\n"


def _on_disk(path: Path, write: Callable[[], None], undo: Callable[[], None]) -> None:
    """Run `write`; when the disk refuses, `undo` what is half there and say so in one line."""
    try:
        write()
    except OSError as error:
        with contextlib.suppress(OSError):
            undo()  # a disk that refuses this too leaves a torn line, which reading skips
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise EdgesvitError(
            f"{path} could not be written: {reason}",
            "free some space and run the same command again; earlier results are intact",
        ) from None
