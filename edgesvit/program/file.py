"""The .esv file: a spike program that a board can use in place, from flash or a mapped file.

Little-endian; every constant starts on a 16-byte boundary of the file. Layout:

    header 64 bytes | values 16 bytes each | operators 48 bytes each | constants | notes (JSON)

firmware/runtime/esv_format.h states the same layout for C. A CRC-32 covers all that follows it.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np

from edgesvit.disk import write_atomic
from edgesvit.errors import EdgesvitError
from edgesvit.program.ops import (
    Add,
    Check,
    ChooseTokens,
    Classify,
    Conv,
    DepthwiseConv,
    EncodeConv,
    Fire,
    Gather,
    HadamardAttention,
    Kind,
    MaxPool,
    Op,
    Program,
    PutBack,
    SelfAttention,
    SpikeConv,
    TokenAttention,
    Value,
    inputs,
    scratch_bytes,
)
from edgesvit.program.packing import pack, packed_bytes, unpack
from edgesvit.program.plan import plan
from edgesvit.program.validate import validate

MAGIC = b"ESVP"
VERSION = 3
NONE = 0xFFFF
_HEADER = struct.Struct("<4sHHIIBxHHHHHIIIIIIIII")
_CRC_FROM = 16  # the CRC covers everything after its own field
_VALUE = struct.Struct("<BxHHHHxxI")
_OP = struct.Struct("<4B4HHBBIIIIiBBxxII")
_CODES: tuple[type, ...] = (EncodeConv, SpikeConv, MaxPool, Add, SelfAttention, Classify,
                            TokenAttention, DepthwiseConv, Fire, HadamardAttention,
                            ChooseTokens, Gather, PutBack)


class _Constants:
    """Collects arrays, each aligned to 16 bytes of the file."""

    def __init__(self, start: int):
        self.start = start  # a multiple of 16: header and tables are
        self.data = bytearray()

    def add(self, array: np.ndarray) -> int:
        offset = self.start + len(self.data)
        self.data += np.ascontiguousarray(array).tobytes()
        self.data += bytes(-len(self.data) % 16)
        return offset


def to_bytes(program: Program) -> bytes:
    """Serialise; EdgesvitError when the program is not valid."""
    validate(program)
    layout = plan(program)
    index = {value.name: i for i, value in enumerate(program.values)}
    values_at = _HEADER.size
    ops_at = values_at + _VALUE.size * len(program.values)
    constants = _Constants(ops_at + _OP.size * len(program.ops))
    values = b"".join(_VALUE.pack(v.kind, v.max_level, *v.shape, layout.value_offset[v.name])
                      for v in program.values)
    ops = b"".join(_pack_op(op, program, index, layout.scratch_offset[i], constants)
                   for i, op in enumerate(program.ops))
    check_image = check_logits = 0
    if program.check:
        check_image = constants.add(program.check.image.astype(np.uint8))
        check_logits = constants.add(program.check.logits.astype("<i4"))
    notes = json.dumps({"values": [v.name for v in program.values], "labels": program.labels,
                        "notes": program.notes}, separators=(",", ":")).encode()
    notes_at = constants.start + len(constants.data)
    body = values + ops + bytes(constants.data) + notes
    body += bytes(-len(body) % 16)
    header = _HEADER.pack(
        MAGIC, VERSION, _HEADER.size, _HEADER.size + len(body), 0, program.time_steps,
        len(program.values), len(program.ops), index[program.input.name],
        index[program.output.name], 0, layout.arena_bytes, values_at, ops_at, check_image,
        check_logits, notes_at, len(notes), 0, 0)
    crc = zlib.crc32(header[_CRC_FROM:] + body)
    return header[:12] + struct.pack("<I", crc) + header[_CRC_FROM:] + body


def _pack_op(op: Op, program: Program, index: dict[str, int], scratch_at: int,
             constants: _Constants) -> bytes:
    names = [index[name] for name in inputs(op)]
    weight = bias = threshold = extra = 0
    if isinstance(op, Conv | Classify):
        packed = np.frombuffer(pack(op.weight, op.weight_bits), np.uint8)
        weight, bias = constants.add(packed), constants.add(op.bias.astype("<i4"))
    if isinstance(op, Conv | Fire):
        after = op.threshold if op.threshold is not None else op.scale
        threshold = constants.add(after.astype("<i4"))
    if isinstance(op, ChooseTokens) and op.scale is not None:
        threshold = constants.add(op.scale.astype("<i4"))
    if isinstance(op, EncodeConv):
        extra = constants.add(op.pad_pixel)
    if isinstance(op, SpikeConv):
        extra = constants.add(np.packbits(op.certified, bitorder="little"))
    if isinstance(op, SelfAttention) and op.level_thresholds:
        threshold = constants.add(np.array(op.level_thresholds, "<i4"))
    window = (op.kernel, op.stride, op.pad) if isinstance(op, Conv | MaxPool) else (0, 0, 0)
    if isinstance(op, Fire):
        window = (int(op.over_tokens), 0, 0)
    if isinstance(op, ChooseTokens):
        window = (op.window, op.spatial, op.temporal)
    return _OP.pack(
        _CODES.index(type(op)), *window, *(names + [NONE] * (3 - len(names))), index[op.output],
        getattr(op, "heads", 0), getattr(op, "pool", 0), getattr(op, "pool_stride", 0), weight,
        bias, threshold, extra, 0 if isinstance(op, Conv | Fire) else getattr(op, "threshold", 0),
        getattr(op, "shift", 0), getattr(op, "weight_bits", 0), scratch_at,
        scratch_bytes(op, program))


def write(program: Program, path: Path) -> None:
    """Write an .esv file; an interrupted write leaves the old file as it was."""
    write_atomic({path: to_bytes(program)})


def crc32(path: Path) -> str:
    """The program's name on the wire: its checksum in 8 hex digits."""
    return f"{_HEADER.unpack_from(path.read_bytes())[4]:08x}"


def arena_bytes(path: Path) -> int:
    """The arena that the program at `path` asks for."""
    return _HEADER.unpack_from(path.read_bytes())[11]


def read(path: Path) -> Program:
    """Read an .esv file; EdgesvitError naming the file and the fault when it is damaged."""
    try:
        return from_bytes(Path(path).read_bytes())
    except OSError as error:
        raise EdgesvitError(f"{path}: {error.strerror}") from None
    except EdgesvitError as error:
        raise EdgesvitError(f"{path}: {error.message}", "write the program again") from None


def from_bytes(data: bytes) -> Program:
    """Parse and validate; constants but weights are views of `data`, not copies."""
    if len(data) < _HEADER.size:
        raise EdgesvitError(f"truncated: {len(data)} bytes, the header alone takes {_HEADER.size}")
    (magic, version, _, size, crc, steps, n_values, n_ops, first, last, _, _, values_at, ops_at,
     check_image, check_logits, notes_at, notes_bytes, _, _) = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise EdgesvitError("not a spike program (.esv)")
    if version != VERSION:
        raise EdgesvitError(f"format version {version}, this release reads {VERSION}")
    if len(data) < size:
        raise EdgesvitError(f"truncated: {len(data)} of {size} bytes")
    if zlib.crc32(data[_CRC_FROM:size]) != crc:
        raise EdgesvitError("corrupted: the checksum differs")
    try:
        names = json.loads(data[notes_at:notes_at + notes_bytes])
        values = tuple(_unpack_value(data, values_at + i * _VALUE.size, names["values"][i])
                       for i in range(n_values))
        ops = tuple(_unpack_op(data, ops_at + i * _OP.size, values) for i in range(n_ops))
        check = None
        if check_image:
            shape, classes = values[first].shape, values[last].shape[2]
            if values[first].kind == Kind.LEVELS:
                shape = (steps, *shape)
            check = Check(_array(data, check_image, shape, "u1"),
                          _array(data, check_logits, (classes,), "<i4"))
        program = Program(steps, values, ops, tuple(names["labels"]), check, names["notes"])
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise EdgesvitError(f"inconsistent: {error}") from None
    return validate(program)


def _array(data: bytes, offset: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape)


def _unpack_value(data: bytes, at: int, name: str) -> Value:
    kind, max_level, *shape, _ = _VALUE.unpack_from(data, at)
    return Value(name, Kind(kind), tuple(shape), max_level)


def _unpack_op(data: bytes, at: int, values: tuple[Value, ...]) -> Op:
    (code, kernel, stride, pad, in0, in1, in2, out, heads, pool, pool_stride, weight_at, bias_at,
     threshold_at, extra_at, threshold, shift, bits, _, _) = _OP.unpack_from(data, at)
    source, output, kind = values[in0], values[out], _CODES[code]
    names = [values[i].name for i in (in0, in1, in2) if i != NONE]
    channels = output.shape[2]

    def thresholds() -> np.ndarray:
        if output.kind == Kind.LEVELS:
            return _array(data, threshold_at, (output.max_level, channels), "<i4")
        return _array(data, threshold_at, (channels,), "<i4")

    if kind is MaxPool:
        return MaxPool(source.name, output.name, kernel, stride, pad)
    if kind is Add:
        return Add(*names, output.name)
    if kind is Fire:
        return Fire(source.name, output.name, thresholds(), bool(kernel))
    if kind is ChooseTokens:
        membrane = source.kind == Kind.MEMBRANE
        scale = _array(data, threshold_at, (source.shape[2],), "<i4") if membrane else None
        return ChooseTokens(source.name, output.name, kernel, stride, pad, scale)
    if kind is Gather or kind is PutBack:
        return kind(*names, output.name)
    if kind is HadamardAttention:
        return HadamardAttention(*names, output.name, shift, threshold, heads)
    if kind is TokenAttention:
        return TokenAttention(*names, output.name, heads, shift, threshold)
    if kind is SelfAttention:
        levels = ()
        if output.kind == Kind.LEVELS:
            levels = tuple(_array(data, threshold_at, (output.max_level,), "<i4").tolist())
        return SelfAttention(*names, output.name, heads, shift, threshold, levels)
    taps = max(kernel, 1) ** 2 * (1 if kind is DepthwiseConv else source.shape[2])
    weight = unpack(_array(data, weight_at, (packed_bytes(taps, channels, bits),), "u1"), taps,
                    channels, bits)
    bias = _array(data, bias_at, (channels,), "<i4")
    if kind is Classify:
        return Classify(source.name, output.name, weight, bias, bits, shift, "".join(names[1:]))
    after = {"threshold": thresholds()}
    if output.kind == Kind.MEMBRANE:
        after = {"scale": thresholds(), "shift": shift, "stream": names[1] if names[1:] else ""}
    if kind is EncodeConv:
        after["pad_pixel"] = _array(data, extra_at, (source.shape[2],), "u1")
    if kind is SpikeConv:
        flags = _array(data, extra_at, (-(-channels // 8),), "u1")
        after["certified"] = np.unpackbits(flags, count=channels, bitorder="little").astype(bool)
    if kind is not DepthwiseConv:
        after |= {"pool": pool, "pool_stride": pool_stride}
    return kind(source.name, output.name, kernel, stride, pad, weight, bias, weight_bits=bits,
                **after)
