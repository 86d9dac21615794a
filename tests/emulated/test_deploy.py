"""The shipped model on every target that runs here: the same logits, the same counts each time."""

import shutil

import numpy as np
import pytest

from edgesvit import profiles, targets
from edgesvit.boards.local import HostProgram
from edgesvit.boards.run import run
from edgesvit.cli.options import model_folder
from edgesvit.data import load
from edgesvit.deploy import deploy, prepare
from edgesvit.lower.compile import PACKAGES
from edgesvit.lower.native import lower
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run as interpret
from edgesvit.run_folder import RunFolder
from tests.program.programs import random_image, random_membrane_program, random_program
from tests.program.test_file import with_check

pytestmark = pytest.mark.emulated
SEVEN = ["host", "qemu-user-a72", "qemu-user-a76", "qemu-aarch64", "qemu-mps2-an386",
         "qemu-mps2-an500", "qemu-mps3-an547", "qemu-netduinoplus2"]
COMPILER = {"linux": "aarch64-linux-gnu-gcc", "mcu": "arm-none-eabi-gcc", "host": "cc"}


def target_or_skip(name: str) -> targets.Target:
    target = targets.load(name)
    needed = [COMPILER[target.kind]] + ([target.emulator.program] if target.emulator else [])
    for program in needed:
        if not shutil.which(program):
            pytest.skip(f"needs {program} ({PACKAGES[program]})")
    return target


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    return prepare(model_folder(None), folder, load("digits", "test"), 6)


@pytest.mark.parametrize("name", SEVEN)
def test_the_shipped_model(deployment, name):
    target = target_or_skip(name)
    results = [deploy(deployment, target, profiles.load("fit"), lambda text: None)
               for _ in range(2)]
    for result in results:
        assert result.logits_equal == 6 and result.accuracy >= 98
        for row in result.memory:
            assert 0 < row.observed_bytes <= row.region_budget_bytes
            assert row.linked_bytes is None or row.linked_bytes <= row.region_budget_bytes
    if target.emulator:
        counts = [result.instructions_per_inference.all for result in results]
        # Linux draws the place of the stack, and a C library's memset counts by its alignment.
        drawn = 64 if target.transport == "ssh" else 0
        assert np.abs(np.subtract(*counts)).max() <= drawn and min(counts[0]) > 100_000
        assert results[0].latency_us is None and results[0].label == "emulated"


@pytest.mark.parametrize("name", ["host", "qemu-user-a76", "qemu-mps2-an500"])
@pytest.mark.parametrize("family", ["qkformer", "sdt_v1", "sdt_v2", "sdt_v3"])
def test_every_family(tmp_path, family, name):
    target = target_or_skip(name)
    folder = RunFolder(tmp_path)
    ready = prepare(model_folder(f"{family}-digits"), folder, load("digits", "test"), 8)
    result = deploy(ready, target, profiles.load("fit"), lambda text: None)
    assert result.logits_equal == 8 and result.accuracy >= 97


@pytest.mark.parametrize("name", ["qemu-user-a72", "qemu-mps2-an386"])
@pytest.mark.parametrize(("make", "seed"), [
    *((random_program, seed) for seed in range(5)),
    *((random_membrane_program, seed) for seed in range(5))])
def test_random_programs_on_an_emulated_core(tmp_path, name, make, seed):
    program = with_check(seed, make)
    path = tmp_path / "program.esv"
    path.write_bytes(to_bytes(program))
    images = np.stack([random_image(program, seed + i) for i in range(3)])
    target = target_or_skip(name)
    board = run(target, lower(path, target), images, lambda text: None, lambda done: None)
    expected = np.stack([interpret(program, image) for image in images])
    assert (board.logits == expected).all()
    assert (HostProgram(path.read_bytes()).run(images) == expected).all()
