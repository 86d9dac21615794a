"""The forward direction of AES-256 (FIPS 197, 5.1), which only a fake TC66C needs."""

from edgesvit.meters.aes import SBOX, round_keys, xor


def encrypt(data: bytes, key: bytes) -> bytes:
    keys = round_keys(key)
    return b"".join(_block(data[i:i + 16], keys) for i in range(0, len(data), 16))


def _block(block: bytes, keys: list[bytes]) -> bytes:
    state = xor(block, keys[0])
    for key in keys[1:]:
        state = bytes(SBOX[state[4 * ((c + r) % 4) + r]] for c in range(4) for r in range(4))
        if key is not keys[-1]:
            state = b"".join(_mixed(state[i:i + 4]) for i in range(0, 16, 4))
        state = xor(state, key)
    return state


def _mixed(column: bytes) -> bytes:
    def twice(value: int) -> int:
        return (value << 1 ^ (0x1B if value & 0x80 else 0)) & 0xFF

    every = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes(column[r] ^ every ^ twice(column[r] ^ column[(r + 1) % 4]) for r in range(4))
