"""Weights as a file holds them: b bits each, in tiles of 16 output channels.

firmware/kernels/weights.h states the same layout for C.
"""

import numpy as np

LANES = 16
# The fields a packed weight is cut into, lowest bits first, by their width in bits.
_FIELDS = (4, 2, 1)


def pack(weight: np.ndarray, bits: int) -> bytes:
    """Integer weights [K, C] within b bits as tiles of 16 channels, each of K rows.

    With 8 bits a row is one int8 a channel; with 2 to 7 it has 16 lanes of b bits whatever the
    tile has, each as w + 2**(b - 1), cut into fields of 4, 2 and 1 bits.
    """
    return b"".join(_pack_tile(weight[:, first : first + LANES], bits)
                    for first in range(0, weight.shape[1], LANES))


def _pack_tile(weight: np.ndarray, bits: int) -> bytes:
    if bits == 8:
        return np.ascontiguousarray(weight, np.int8).tobytes()
    middle = 1 << (bits - 1)
    codes = np.full((len(weight), LANES), middle, np.uint8)
    codes[:, : weight.shape[1]] += weight.astype(np.uint8)  # modulo 256: the sum is in range
    parts, at = [], 0
    for width in _FIELDS:
        if bits & width:
            parts.append(_pack_field(codes >> at & ((1 << width) - 1), width))
            at += width
    return np.concatenate(parts, axis=1).tobytes()


def _pack_field(field: np.ndarray, width: int) -> np.ndarray:
    """uint8 [K, 16] below 2**width to bytes [K, 2 * width]."""
    if width == 1:
        return np.packbits(field, axis=1, bitorder="little")
    four = field.reshape(len(field), 2 if width == 4 else 1, 8 // width, 4)
    shift = (np.arange(8 // width) * width).astype(np.uint8)[:, None]
    return np.bitwise_or.reduce(four << shift, axis=2).reshape(len(field), 2 * width)


def packed_bytes(rows: int, channels: int, bits: int) -> int:
    """The length of `pack`'s result."""
    tiles = -(-channels // LANES)
    return rows * (channels if bits == 8 else tiles * 2 * bits)


def unpack(data: np.ndarray, rows: int, channels: int, bits: int) -> np.ndarray:
    """The int8 [K, C] that `pack` made uint8 [packed_bytes] of."""
    weight = np.empty((rows, channels), np.int8)
    at = 0
    for first in range(0, channels, LANES):
        lanes = min(LANES, channels - first)
        size = packed_bytes(rows, lanes, bits)
        tile = data[at : at + size].reshape(rows, size // rows)
        weight[:, first : first + lanes] = _unpack_tile(tile, bits)[:, :lanes]
        at += size
    return weight


def _unpack_tile(tile: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return tile.view(np.int8)
    codes, at, begin = np.zeros((len(tile), LANES), np.uint8), 0, 0
    for width in _FIELDS:
        if bits & width:
            codes |= _unpack_field(tile[:, begin : begin + 2 * width], width) << at
            at += width
            begin += 2 * width
    return (codes.astype(np.int16) - (1 << (bits - 1))).astype(np.int8)


def _unpack_field(part: np.ndarray, width: int) -> np.ndarray:
    if width == 1:
        return np.unpackbits(part, axis=1, bitorder="little")
    four = part.reshape(len(part), 2 if width == 4 else 1, 1, 4)
    shift = (np.arange(8 // width) * width).astype(np.uint8)[:, None]
    return (four >> shift & ((1 << width) - 1)).reshape(len(part), LANES)
