"""The .esv file: what is written is read back, what is damaged is refused, in Python and in C."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from edgesvit.boards.local import HostProgram
from edgesvit.errors import EdgesvitError
from edgesvit.program import file
from edgesvit.program.interpret import run
from edgesvit.program.ops import Check, Program
from tests.program.programs import random_image, random_program


def with_check(seed: int, make: Callable[[int], Program] = random_program) -> Program:
    program = make(seed)
    image = random_image(program, seed)
    return Program(program.time_steps, program.values, program.ops, ("a", "b"),
                   Check(image, run(program, image)), {"made": "here"})


@pytest.mark.parametrize("seed", range(12))
def test_round_trip(seed):
    program = with_check(seed)
    data = file.to_bytes(program)
    again = file.from_bytes(data)
    assert file.to_bytes(again) == data
    assert again.values == program.values and again.labels == ("a", "b")
    assert again.notes == program.notes
    assert (again.check.logits == program.check.logits).all()
    image = random_image(program, seed + 1)
    assert (run(again, image) == run(program, image)).all()


def test_constants_are_aligned_and_not_copied():
    """All but weights, which are unpacked."""
    data = file.to_bytes(with_check(4))
    program = file.from_bytes(data)
    start = np.frombuffer(data, np.uint8).ctypes.data
    for op in program.ops:
        if hasattr(op, "bias"):
            assert (op.bias.ctypes.data - start) % 16 == 0
            assert 0 <= op.bias.ctypes.data - start < len(data)


@pytest.mark.parametrize("kept", [0, 10, 63, 64, 200, -1])
def test_truncated_files_are_refused(kept):
    data = file.to_bytes(with_check(4))[:kept]
    with pytest.raises(EdgesvitError, match="truncated"):
        file.from_bytes(data)
    with pytest.raises(EdgesvitError, match="truncated"):
        HostProgram(data)


@pytest.mark.parametrize("at", [0, 4, 16, 70, 500, -1])
def test_a_flipped_bit_is_refused(at):
    data = bytearray(file.to_bytes(with_check(4)))
    data[at] ^= 1
    for reader in (file.from_bytes, HostProgram):
        with pytest.raises(EdgesvitError, match="checksum|not a spike|version"):
            reader(bytes(data))


def sealed(data: bytes, at: int, value: bytes) -> bytes:
    """`data` with bytes replaced and a checksum that is right again."""
    changed = bytearray(data)
    changed[at:at + len(value)] = value
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
    return bytes(changed)


@pytest.mark.parametrize(("what", "at", "value"), [
    ("no time steps", 16, b"\0"),
    ("nine time steps", 16, b"\x09"),
    ("a value outside the arena", 64 + 12, struct.pack("<I", 1 << 20)),
    ("an unaligned value", 64 + 12, b"\x01\0\0\0"),
    ("an unknown kind", 64, b"\x09"),
    ("no columns", 64 + 6, b"\0\0"),
    ("tables outside the file", 32, struct.pack("<I", 1 << 30)),
    ("a check vector outside the file", 40, struct.pack("<I", 1 << 30)),
])
def test_impossible_files_are_refused_by_the_runtime(what, at, value):
    data = sealed(file.to_bytes(with_check(4)), at, value)
    with pytest.raises(EdgesvitError, match="impossible|misaligned|boundary"):
        HostProgram(data)


def op_at(data: bytes, index: int) -> int:
    return struct.unpack_from("<I", data, 36)[0] + index * 48


@pytest.mark.parametrize(("what", "field", "value"), [
    ("an unknown operator", 0, b"\x63"),
    ("a kernel of no size", 1, b"\0"),
    ("a stride of zero", 2, b"\0"),
    ("an input that is no value", 4, b"\xfe\xff"),
    ("weights outside the file", 16, struct.pack("<I", 1 << 30)),
    ("an unaligned bias", 20, struct.pack("<I", 65)),
    ("its scratch over its output", 44, struct.pack("<I", 1 << 20)),
])
def test_impossible_operators_are_refused_by_the_runtime(what, field, value):
    data = file.to_bytes(with_check(4))
    with pytest.raises(EdgesvitError, match="impossible operator"):
        HostProgram(sealed(data, op_at(data, 0) + field, value))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "program.esv"
    file.write(with_check(1), path)
    before = path.read_bytes()
    broken = random_program(2)
    with pytest.raises(EdgesvitError):
        file.write(Program(9, broken.values, broken.ops), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["program.esv"]


def test_reading_names_the_file(tmp_path):
    with pytest.raises(EdgesvitError, match="nothing.esv"):
        file.read(tmp_path / "nothing.esv")
