"""What the kernels promise to small boards; attention of all sizes on vectors."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgesvit.lower.compile import PACKAGES
from edgesvit.lower.native import linux_runner
from edgesvit.measure.run import read_runner
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run as interpret
from edgesvit.program.interpret import trace
from edgesvit.program.ops import Program, TokenAttention, Value
from edgesvit.resources import shipped
from edgesvit.targets import load
from tests.program.programs import Builder, random_image
from tests.program.test_operators import assert_equal, network

# A frame larger than the guard below a Cortex-M stack could jump over it unnoticed.
GUARD_BYTES = 512


def sources() -> list:
    return [p for name in ("kernels", "runtime")
            for p in sorted((shipped("firmware") / name).glob("*.c"))]


@pytest.mark.parametrize("source", sources(), ids=lambda p: p.name)
@pytest.mark.parametrize("cpu", ["cortex-m4", "cortex-m7"])
def test_stack_frames_stay_within_the_guard(tmp_path, source, cpu):
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip(f"needs arm-none-eabi-gcc ({PACKAGES['arm-none-eabi-gcc']})")
    includes = [f"-I{shipped('firmware') / name}" for name in ("kernels", "runtime")]
    subprocess.run(["arm-none-eabi-gcc", "-std=c99", "-O2", f"-mcpu={cpu}", "-mthumb",
                    "-fstack-usage", *includes, "-c", source, "-o", tmp_path / "x.o"], check=True)
    frames = re.findall(r"\t(\d+)\t(\w+)", (tmp_path / "x.su").read_text())
    code = subprocess.run(["arm-none-eabi-nm", tmp_path / "x.o"], capture_output=True, text=True,
                          check=True).stdout  # nothing, of kernels for other processors
    assert bool(frames) == (" t " in code.lower())
    assert all(int(size) <= GUARD_BYTES and kind == "static" for size, kind in frames), frames


@pytest.mark.parametrize("source", sources(), ids=lambda p: p.name)
def test_no_libc_beyond_memcpy_and_memset(tmp_path, source):
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip(f"needs arm-none-eabi-gcc ({PACKAGES['arm-none-eabi-gcc']})")
    includes = [f"-I{shipped('firmware') / name}" for name in ("kernels", "runtime")]
    subprocess.run(["arm-none-eabi-gcc", "-std=c99", "-O2", "-mcpu=cortex-m4", "-mthumb",
                    *includes, "-c", source, "-o", tmp_path / "x.o"], check=True)
    listing = subprocess.run(["arm-none-eabi-nm", "-u", tmp_path / "x.o"], capture_output=True,
                             text=True, check=True).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    foreign = {n for n in names if not n.startswith(("esv_", "__aeabi_"))}
    assert foreign <= {"memcpy", "memset"}


def attending(steps: int, height: int, width: int, build: Callable[[Builder], Value], usual: int
              ) -> Program:
    """A network whose attention passes some spikes, not all; neurons fire from about `usual` on."""
    def with_threshold(b: Builder) -> Value:
        out = build(b)
        b.ops[-1] = replace(b.ops[-1], threshold=(usual or 1) << steps >> 1)
        return out

    for seed in range(60):
        program = network(steps, (height, width, 2), with_threshold, seed)
        op = program.ops[-2]
        comes = op.key if isinstance(op, TokenAttention) else op.query
        seen = [trace(program, random_image(program, seed)) for seed in range(4)]
        if any(x[op.output].any() and (x[op.output] != x[comes]).any() for x in seen):
            return program
    raise AssertionError("all or nothing passes")


# Heads of fewer codes than a vector, of whole ones and of more; less than 16 of tokens and heads,
# or no multiple of it; currents that leave 16 bits.
TOKENS = [(steps, 3, 5, heads, dim) for steps, heads, dim in (
    (1, 1, 1), (2, 3, 2), (4, 1, 2), (5, 3, 4), (8, 16, 4), (3, 2, 8), (4, 3, 16), (6, 1, 32),
    (7, 2, 33), (8, 33, 3))] + [(4, 1, 3, 1, 2), (4, 1, 2, 3, 4), (8, 2, 5, 2, 130)]
# Channels fewer than a tile, a tile, more and no multiple; tokens beyond what a byte counts.
HADAMARD = [(1, 3, 5, 12), (3, 3, 5, 1), (2, 3, 5, 5), (4, 3, 5, 15), (4, 4, 4, 16), (3, 3, 5, 33),
            (5, 5, 3, 64), (8, 17, 15, 17), (4, 16, 16, 33), (6, 23, 23, 3)]


def token_attention(steps: int, height: int, width: int, heads: int, dim: int) -> Program:
    return attending(steps, height, width,
                     lambda b: b.attend_tokens(b.encode(9), heads, dim), dim // 5)


def hadamard_attention(steps: int, height: int, width: int, channels: int) -> Program:
    return attending(steps, height, width,
                     lambda b: b.attend_hadamard(b.encode(9), channels), height * width // 8)


@pytest.mark.parametrize("size", TOKENS, ids=str)
def test_token_attention_of_any_size(size):
    program = token_attention(*size)
    for seed in range(4):
        assert_equal(program, random_image(program, seed))


@pytest.mark.parametrize("size", HADAMARD, ids=str)
def test_hadamard_attention_of_any_size(size):
    program = hadamard_attention(*size)
    for seed in range(4):
        assert_equal(program, random_image(program, seed))


def test_attention_of_any_size_on_aarch64(tmp_path):
    for tool in ("qemu-aarch64", "aarch64-linux-gnu-gcc"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool} ({PACKAGES[tool]})")
    runner, file, data = linux_runner(load("qemu-user-a76")), tmp_path / "p", tmp_path / "images"
    for program in (*(token_attention(*size) for size in TOKENS),
                    *(hadamard_attention(*size) for size in HADAMARD)):
        images = [random_image(program, seed) for seed in range(4)]
        file.write_bytes(to_bytes(program))
        data.write_bytes(b"".join(image.tobytes() for image in images))
        said = subprocess.run(["qemu-aarch64", "-cpu", "cortex-a72", runner, file, data],
                              capture_output=True, text=True, check=True, timeout=120)
        board = read_runner(said.stdout.splitlines(), len(images), "cortex-a72")
        assert board.logits.tolist() == [interpret(program, image).tolist() for image in images]
