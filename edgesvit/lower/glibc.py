"""Which version of the C library a board needs for what is copied to it."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgesvit.errors import DoesNotFit
from edgesvit.lower.compile import need


def least_glibc(files: Sequence[Path]) -> str:
    """The newest version of glibc that any of these ELF files asks for, as "2.34"; "" for none."""
    said = subprocess.run([need("readelf"), "-V", "-W", *map(str, files)], capture_output=True,
                          text=True, check=True).stdout
    versions = {_numbers(text) for text in re.findall(r"\bGLIBC_(\d+\.\d+)", said)}
    return ".".join(map(str, max(versions))) if versions else ""


def require_glibc(needed: str, board: str | None, name: str) -> None:
    """Raise DoesNotFit when the glibc of the board `name` is older; unknown passes."""
    if needed and board and _numbers(board) < _numbers(needed):
        raise DoesNotFit(
            f"{name}: this runtime needs glibc {needed} or newer, the board has {board}",
            "use Raspberry Pi OS bookworm (2.36) or JetPack 6 (2.35), not JetPack 5 (2.31), or "
            "--runtime native, which needs none")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
