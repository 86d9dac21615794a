"""AES-256 (FIPS 197), one block at a time: the TC66C scrambles its answers with a fixed key.

Slow and open to timing: fit for a published key and a few blocks a second, not for secrets.
"""

from itertools import pairwise

BLOCK = 16


def _xtime(value: int) -> int:
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _times(value: int, factor: int) -> int:
    product = 0
    while factor:
        product ^= value if factor & 1 else 0
        value, factor = _xtime(value), factor >> 1
    return product


def _sbox() -> bytes:
    """FIPS 197, 5.1.1: the inverse in GF(2^8), then an affine map."""
    power = [1]
    for _ in range(254):
        power.append(_times(power[-1], 3))
    log = {value: index for index, value in enumerate(power)}
    box = []
    for value in range(256):
        inverse = power[-log[value] % 255] if value else 0
        spread = 0
        for turn in range(5):
            spread ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        box.append(spread ^ 0x63)
    return bytes(box)


SBOX = _sbox()
_INVERSE = bytes(SBOX.index(value) for value in range(256))


def round_keys(key: bytes) -> list[bytes]:
    """The 15 round keys of a 32-byte key (5.2)."""
    words = [key[i:i + 4] for i in range(0, 32, 4)]
    constant = 1
    while len(words) < 60:
        last = words[-1]
        if len(words) % 8 == 0:
            last = bytes(SBOX[byte] for byte in last[1:] + last[:1])
            last = bytes([last[0] ^ constant]) + last[1:]
            constant = _xtime(constant)
        elif len(words) % 8 == 4:
            last = bytes(SBOX[byte] for byte in last)
        words.append(xor(words[-8], last))
    return [b"".join(words[i:i + 4]) for i in range(0, 60, 4)]


def xor(a: bytes, b: bytes) -> bytes:
    """Byte by byte."""
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def decrypt(data: bytes, key: bytes) -> bytes:
    """Whole blocks in ECB mode (5.3)."""
    keys = round_keys(key)[::-1]
    return b"".join(_decrypt_block(data[i:i + BLOCK], keys) for i in range(0, len(data), BLOCK))


def _decrypt_block(block: bytes, keys: list[bytes]) -> bytes:
    state = xor(block, keys[0])
    for _, key in pairwise(keys):
        # Rows shift right by their number; column-major: byte 4 c + r is row r of column c.
        state = bytes(_INVERSE[state[4 * ((c - r) % 4) + r]] for c in range(4) for r in range(4))
        state = xor(state, key)
        if key is not keys[-1]:
            state = b"".join(_unmix(state[i:i + 4]) for i in range(0, 16, 4))
    return state


_E, _B, _D, _9 = (bytes(_times(value, factor) & 0xFF for value in range(256))
                  for factor in (14, 11, 13, 9))


def _unmix(column: bytes) -> bytes:
    return bytes(_E[column[r]] ^ _B[column[(r + 1) % 4]] ^ _D[column[(r + 2) % 4]]
                 ^ _9[column[(r + 3) % 4]] for r in range(4))
