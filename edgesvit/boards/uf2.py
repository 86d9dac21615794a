"""Boards that are flashed by copying a file to a disk: UF2 (microsoft.github.io/uf2)."""

import re
import struct
from pathlib import Path

MAGIC = (0x0A324655, 0x9E5D5157)
END = 0x0AB16F30
HAS_FAMILY = 0x2000
PAYLOAD_BYTES = 256  # of the 476 that there is room for: what every bootloader takes
INFO = "INFO_UF2.TXT"
MOUNTS = Path("/proc/mounts")


def blocks(binary: bytes, origin: int, family: int) -> bytes:
    """`binary`, to be written from address `origin` on, as blocks of 512 bytes.

    Each holds magic, flags, address, payload bytes, its number, their count and the family, all
    uint32 little-endian; then the payload, and from byte 508 a last magic.
    """
    parts = [binary[i:i + PAYLOAD_BYTES] for i in range(0, len(binary), PAYLOAD_BYTES)]
    return b"".join(
        struct.pack("<8I476sI", *MAGIC, HAS_FAMILY, origin + PAYLOAD_BYTES * number, PAYLOAD_BYTES,
                    number, len(parts), family, part, END)
        for number, part in enumerate(parts))


def drive(board: str) -> Path | None:
    """Where the disk of a board with this Board-ID is mounted; None when none is."""
    if not board or not MOUNTS.exists():
        return None
    for line in MOUNTS.read_text(errors="replace").splitlines():
        place = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[1]))
        try:
            said = (place / INFO).read_text(errors="replace")
        except OSError:
            continue
        if re.search(rf"^Board-ID:\s*{re.escape(board)}\b", said, re.MULTILINE):
            return place
    return None
