"""Event models of SDT-V1 and SDT-V3's Model_Large on an emulated Cortex-A76 and Cortex-M7."""

import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit import targets  # noqa: E402
from edgesvit.boards.qemu_mcu import emulated_mcu  # noqa: E402
from edgesvit.lower.firmware import build_firmware  # noqa: E402
from edgesvit.lower.native import linux_runner  # noqa: E402
from edgesvit.measure.protocol import SerialSession  # noqa: E402
from edgesvit.measure.run import read_runner  # noqa: E402
from edgesvit.program.interpret import run  # noqa: E402
from tests.fakes.serial_boards import needs, write_program  # noqa: E402
from tests.program import forms  # noqa: E402

pytestmark = pytest.mark.emulated


@pytest.mark.parametrize("form", [0, 1], ids=["sdt_v1 of events", "sdt_v3_large"])
def test_cortex_a76(tmp_path, form):
    for program in ("qemu-aarch64", "aarch64-linux-gnu-gcc"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    program, images = forms.both()[form]
    path, _ = write_program(program, tmp_path)
    data = tmp_path / "images.bin"
    data.write_bytes(np.ascontiguousarray(images).tobytes())
    for threads in ("1", "3"):
        said = subprocess.run(
            ["qemu-aarch64", "-cpu", "cortex-a76", linux_runner(targets.load("qemu-user-a76")),
             "--threads", threads, path, data], capture_output=True, text=True, timeout=120)
        board = read_runner(said.stdout.splitlines(), len(images), "a76")
        assert board.logits.tolist() == [run(program, image).tolist() for image in images]


@pytest.mark.parametrize("form", [0, 1], ids=["sdt_v1 of events", "sdt_v3_large"])
def test_cortex_m7(tmp_path, form):
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    program, images = forms.both()[form]
    target = targets.load("qemu-mps2-an500")
    path, arena_bytes = write_program(program, tmp_path)
    with emulated_mcu(target, build_firmware(target, path, arena_bytes).elf) as port:
        session = SerialSession(port)
        session.hello()
        for image in images:
            assert session.infer(image).logits.tolist() == run(program, image).tolist()
