"""What the kernels promise to small boards."""

import re
import shutil
import subprocess

import pytest

from edgesvit.lower.compile import PACKAGES
from edgesvit.resources import shipped

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
