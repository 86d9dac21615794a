"""What each operator takes: the parts add up to the whole, and compute the same."""

import json
import subprocess
import sys

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.boards.qemu_mcu import emulated_mcu
from edgesvit.lower.firmware import build_firmware
from edgesvit.measure.protocol import SerialSession
from edgesvit.program import interpret
from tests.emulated.test_deploy import target_or_skip
from tests.fakes.serial_boards import needs, small_program, write_program
from tests.program.programs import random_image

pytestmark = pytest.mark.emulated
# Instructions around a step that are not in it: the call, the clock, the counter.
AROUND = {"qemu-user-a76": 64, "qemu-mps2-an386": 200}


def measured(name: str, folder, images: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "edgesvit", "measure", "--target", name, "--layers", "--images",
         str(images), "--windows", "1", "--seconds", "0.05", "--idle", "0", "--run", str(folder),
         "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["results"][0]


@pytest.mark.parametrize("name", AROUND)
def test_the_parts_add_up_to_the_whole(name, tmp_path):
    target_or_skip(name)
    result = measured(name, tmp_path, 1)
    layers, whole = result["layers"], result["instructions_per_inference"]["median"]
    total = sum(layer["value"] for layer in layers)
    assert abs(total - whole) < AROUND[name] * len(layers) and total > 100_000
    assert {layer["unit"] for layer in layers} == {"instructions"}
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert layers[0]["name"] == "stem.0" and layers[0]["shape"] == [8, 8, 16]
    assert "block.0.q+block.0.k+block.0.v" in [layer["name"] for layer in layers]


def test_a_real_clock_gives_microseconds(tmp_path):
    target_or_skip("host")
    layers = measured("host", tmp_path, 3)["layers"]
    assert {layer["unit"] for layer in layers} == {"us"}
    assert all(layer["value"] > 0 for layer in layers)


def test_steps_on_a_board_compute_the_same(tmp_path):
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    program, target = small_program(), targets.load("qemu-mps2-an386")
    elf = build_firmware(target, *write_program(program, tmp_path)).elf
    with emulated_mcu(target, elf) as port:
        session = SerialSession(port)
        for seed in range(3):
            image = random_image(program, seed)
            firsts, ticks, logits = session.steps(image, len(program.ops))
            np.testing.assert_array_equal(logits, interpret.run(program, image))
            assert firsts[0] == 0 and firsts == sorted(set(firsts)) and len(ticks) == len(firsts)
