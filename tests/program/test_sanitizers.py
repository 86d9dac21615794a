"""The C runtime under AddressSanitizer and UndefinedBehaviorSanitizer."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgesvit.lower.compile import build
from edgesvit.program.file import to_bytes
from edgesvit.resources import shipped
from tests.program.programs import random_membrane_program, random_program
from tests.program.test_file import with_check

SANITIZE = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


@pytest.fixture(scope="module")
def fuzz_loader() -> Path:
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    folders = [shipped("firmware") / name for name in ("kernels", "runtime")]
    # Programs run in the arena alone here, which none of the wide variants do; instrumented, each
    # of their files takes a minute to compile.
    sources = [p for folder in folders for p in sorted(folder.glob("*.c"))
               if not p.name.startswith(("spike_conv_avx", "spike_sort_avx"))]
    headers = [p for folder in folders for p in sorted(folder.glob("*.h"))]
    own = Path(__file__).with_name("fuzz_loader.c")
    includes = [f"-I{folder}" for folder in folders]
    return build("cc", [own, *sources], [*SANITIZE, *includes], "fuzz_loader", headers)


@pytest.mark.parametrize(("make", "seed"), [
    *((random_program, seed) for seed in (1, 4, 5, 6, 7)),
    *((random_membrane_program, seed) for seed in (0, 1, 2, 3, 4))])
def test_2000_mutated_programs_do_no_harm(fuzz_loader, tmp_path, make, seed):
    path = tmp_path / "program.esv"
    path.write_bytes(to_bytes(with_check(seed, make)))
    run = subprocess.run([fuzz_loader, path, "2000", str(seed)], capture_output=True, text=True,
                         timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    accepted, refused = map(int, re.findall(r"=(\d+)", run.stdout))
    # A fuzzer that the loader always turns away would prove nothing about the kernels.
    assert accepted >= 50 and refused >= 500 and accepted + refused == 2000
