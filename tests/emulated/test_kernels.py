"""The Linux runner's kernels on several Arm processors: every variant, any number of threads."""

import dataclasses
import shutil
import subprocess

import numpy as np
import pytest

from edgesvit.lower.native import linux_runner
from edgesvit.measure.run import read_runner
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run as interpret
from edgesvit.program.interpret import trace
from edgesvit.program.ops import Value
from edgesvit.targets import load
from tests.program.programs import (
    Builder,
    beyond_int16,
    random_image,
    random_membrane_program,
    random_program,
)


@pytest.fixture(scope="module")
def runner():
    for program in ("qemu-aarch64", "aarch64-linux-gnu-gcc"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    return linux_runner(load("qemu-user-a76"))


def run(folder, runner, cpu, program, images, *options):
    file, data = folder / "p.esv", folder / "images.bin"
    file.write_bytes(to_bytes(program))
    data.write_bytes(images.tobytes())
    return subprocess.run(["qemu-aarch64", "-cpu", cpu, runner, *options, file, data],
                          capture_output=True, text=True, timeout=120)


# Cortex-A53 and A72 have no dot product: an instruction beyond Armv8.0 would be illegal there.
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76", "max"])
@pytest.mark.parametrize(("kernels", "threads"), [("neon", 1), ("neon", 3), ("scalar", 2)])
def test_logits_are_the_interpreters(tmp_path, runner, cpu, kernels, threads):
    for make, seed in ((random_program, 3), (random_program, 8), (random_membrane_program, 2)):
        program = make(seed)
        images = np.stack([random_image(program, i) for i in range(2)])
        said = run(tmp_path, runner, cpu, program, images, "--kernels", kernels, "--threads",
                   str(threads))
        board = read_runner(said.stdout.splitlines(), 2, cpu)
        assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]
        assert (board.environment["kernels"], board.environment["threads"]) == (kernels, threads)


@pytest.mark.parametrize("options", [("--kernels", "avx2"), ("--speed", "9")])
def test_a_wrong_option_is_told_in_one_line(tmp_path, runner, options):
    program = random_program(3)
    said = run(tmp_path, runner, "cortex-a72", program, random_image(program, 0), *options)
    assert said.returncode == 1 and len(said.stderr.splitlines()) == 1
    assert options[0].strip("-") in said.stderr or options[1] in said.stderr


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_overlapping_windows(tmp_path, runner, steps):
    def build(b: Builder) -> Value:
        x = b.conv(b.encode(40), 33, 3, pad=1)
        return b.conv(b.conv(x, 21, 3, 2, 1), 9, 3, pad=1, pool=(3, 2))

    builder = Builder(np.random.default_rng(steps), steps, (11, 9, 2))
    program = builder.finish(build(builder), 3)
    images = np.stack([random_image(program, i) for i in range(2)])
    said = run(tmp_path, runner, "cortex-a72", program, images, "--threads", "2")
    board = read_runner(said.stdout.splitlines(), 2, "cortex-a72")
    assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_sums_beyond_int16(tmp_path, runner, steps):
    program = beyond_int16(steps)
    images = np.stack([random_image(program, i) for i in range(2)])
    said = run(tmp_path, runner, "cortex-a72", program, images)
    board = read_runner(said.stdout.splitlines(), 2, "cortex-a72")
    assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]


# Counts of up to 25, 100 and 196 tokens: rows are added four, two and one at a time.
@pytest.mark.parametrize(("side", "shift"), [(5, 4), (10, 2), (14, 1)])
def test_heads_of_64_channels(tmp_path, runner, side, shift):
    builder = Builder(np.random.default_rng(side), 3, (side, side, 1))
    out = builder.attend(builder.encode(12), 2, 64, 128)
    threshold = side << shift >> 1
    builder.ops[-1] = dataclasses.replace(builder.ops[-1], shift=shift, threshold=threshold)
    program = builder.finish(out, 3)
    images = np.stack([random_image(program, i) for i in range(2)])
    spikes = trace(program, images[0])[out.name]
    assert 0 < np.count_nonzero(spikes) < spikes.size
    said = run(tmp_path, runner, "cortex-a72", program, images)
    board = read_runner(said.stdout.splitlines(), 2, "cortex-a72")
    assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]
