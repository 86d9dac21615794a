"""The Linux runner's kernels on several Arm processors: every variant, any number of threads."""

import shutil
import subprocess

import numpy as np
import pytest

from edgesvit.lower.native import linux_runner
from edgesvit.measure.run import read_runner
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run as interpret
from edgesvit.targets import load
from tests.program.programs import random_image, random_membrane_program, random_program


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
