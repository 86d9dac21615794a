"""Spike programs through ExecuTorch: the same integers, and faults told in one line."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.boards.run import run
from edgesvit.errors import DoesNotFit, EdgesvitError, UsageError
from edgesvit.lower.artifact import IMAGES
from edgesvit.lower.compile import PACKAGES
from edgesvit.lower.executorch import build, exported, lower, told, wheel
from edgesvit.lower.glibc import least_glibc, require_glibc
from edgesvit.measure.layers import program_layers, read_steps
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run as interpret
from edgesvit.program.ops import Program
from edgesvit.program.plan import plan
from tests.program.programs import random_image, random_membrane_program, random_program
from tests.program.test_file import with_check

HOST = targets.load("host")


@pytest.fixture(autouse=True, scope="module")
def _extra() -> None:
    try:
        wheel.check_versions()
    except UsageError as error:
        pytest.skip(f"{error.message}: {error.hint}")
    if not shutil.which("g++"):
        pytest.skip(f"needs g++ ({PACKAGES['g++']})")


def written(program: Program, folder: Path) -> Path:
    path = folder / "program.esv"
    path.write_bytes(to_bytes(program))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Program, Path]:
    """A program with its self-check vector, and its .esv file."""
    program = with_check(1, random_program)
    return program, written(program, tmp_path_factory.mktemp("small"))


def on_host(artifact, images: np.ndarray) -> np.ndarray:
    return run(HOST, artifact, images, lambda text: None, lambda done: None).logits


@pytest.mark.parametrize(("make", "seed"), [
    (random_program, 0), (random_program, 3), (random_membrane_program, 0),
    (random_membrane_program, 2)])
def test_random_programs_give_the_interpreter_s_logits(tmp_path, make, seed):
    program = with_check(seed, make)
    images = np.stack([random_image(program, seed + i) for i in range(3)])
    artifact = lower(written(program, tmp_path), HOST)
    assert artifact.exact
    assert (on_host(artifact, images) == [interpret(program, i) for i in images]).all()


def test_pytorch_computes_the_same(small):
    torch = pytest.importorskip("torch")
    with wheel.quiet():
        from edgesvit.lower.executorch.export import SpikeModule
    program, _ = small
    logits = SpikeModule(program)(torch.from_numpy(program.check.image.copy()))
    assert logits.tolist() == program.check.logits.tolist()


def test_the_file_says_what_it_needs(small):
    program, path = small
    facts = told(exported(path))
    assert facts["arena_bytes"] == plan(program).arena_bytes and facts["delegates"] == []
    calls = {name: int(n) for n, _, name in (line.split() for line in facts["operators"])}
    assert all(name.startswith("edgesvit::") for name in calls)
    siblings = sum(n * (int(name[-5]) - 1) for name, n in calls.items() if name[-5].isdigit())
    assert sum(calls.values()) + siblings == len(program.ops)


def test_the_runner_tells_what_each_operator_takes(small, tmp_path):
    program, path = small
    artifact = lower(path, HOST)
    (tmp_path / "images").write_bytes(program.check.image.tobytes())
    said = runner(artifact, tmp_path, "--layers", "2", "--library", f"./{build.LIBRARY}",
                  "program.pte", "images").stdout.splitlines()
    lines = [line for line in said if line.startswith("layers ")]
    steps = read_steps(lines, False, "host")
    layers = program_layers(program, steps)
    assert len(lines) == 2 and steps.firsts[0] == 0 and steps.firsts == sorted(set(steps.firsts))
    names = [name for layer in layers for name in layer.name.split("+")]
    assert names == [op.output for op in program.ops]
    assert all(layer.value > 0 and layer.unit == "us" for layer in layers)


def runner(artifact, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The runner itself, with other arguments than the artifact's."""
    for path in (artifact.executable, *artifact.files):
        shutil.copy(path, tmp_path / path.name)
    return subprocess.run([f"./{artifact.executable.name}", *arguments], cwd=tmp_path, text=True,
                          capture_output=True)


def test_without_the_operator_library(small, tmp_path):
    program, path = small
    (tmp_path / "images").write_bytes(program.check.image.tobytes())
    said = runner(lower(path, HOST), tmp_path, "program.pte", "images")
    assert said.returncode == 1 and said.stderr.count("\n") == 1
    assert "needs operators that no --library brings: edgesvit::" in said.stderr


def damaged(data: bytes, how: str) -> bytes:
    if how == "cut":
        return data[:len(data) // 2]
    if how == "not one":
        return b"\x7fELF" + bytes(400)
    at = data.rindex(b"ESVP") + 200  # inside the spike program: its checksum differs
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


@pytest.mark.parametrize("how", ["cut", "not one", "one bit"])
def test_a_damaged_file_is_one_line(small, tmp_path, how):
    program, path = small
    artifact = lower(path, HOST)
    pte = tmp_path / "program.pte"
    pte.write_bytes(damaged(artifact.files[0].read_bytes(), how))
    broken = type(artifact)(artifact.runtime, artifact.executable, {},
                            arguments=artifact.arguments, files=(pte, *artifact.files[1:]))
    with pytest.raises(EdgesvitError, match="program.pte|forward") as caught:
        on_host(broken, program.check.image[None])
    assert caught.value.exit_code == 1 and "\n" not in caught.value.message
    assert IMAGES in broken.arguments


def test_a_wrong_or_missing_version_is_told_with_the_command(monkeypatch):
    real = importlib.metadata.version
    for found, words in (("1.6.0", "needs executorch 1.5, not 1.6.0"),
                         (None, "needs executorch, which is not installed")):
        def version(name: str, found: str | None = found) -> str:
            if name == "executorch" and found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found if name == "executorch" else real(name)
        monkeypatch.setattr(importlib.metadata, "version", version)
        with pytest.raises(UsageError, match=words) as caught:
            wheel.check_versions()
        assert caught.value.hint.startswith("pip install")


def test_no_package_index_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESVIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EdgesvitError, match="cannot fetch ExecuTorch 1.5") as caught:
        wheel.sdk(targets.load("qemu-user-a76"))
    assert "\n" not in caught.value.message
    assert not list((tmp_path / "executorch-sdk").iterdir())


def test_a_board_that_is_too_old(small):
    artifact = lower(small[1], HOST)
    assert artifact.glibc == least_glibc([artifact.executable, *artifact.files[1:]])
    require_glibc(artifact.glibc, artifact.glibc, "board")
    require_glibc(artifact.glibc, None, "a board that does not say")
    with pytest.raises(DoesNotFit, match="needs glibc 2.34 or newer, the board has 2.31") as e:
        require_glibc("2.34", "2.31", "jetson-orin-nano")
    assert "JetPack 5 (2.31)" in e.value.hint and e.value.exit_code == 3


def test_modes_that_are_another_runtime_s(small):
    with pytest.raises(UsageError, match="integer operators have no twin"):
        lower(small[1], HOST, "twin")


PYTHON = """
import shutil, sys
from pathlib import Path
import numpy as np
from edgesvit import targets
from edgesvit.lower.executorch import build, python, wheel
host = targets.load("host")
copy = shutil.copy(build.operator_library(wheel.sdk(host), host), sys.argv[2])
python.load_operators(Path(copy))
images = np.frombuffer(Path(sys.argv[3]).read_bytes(), np.uint8)
print(python.run(Path(sys.argv[1]), images.reshape(eval(sys.argv[4]))).tolist())
"""


def test_python_runtime_with_two_copies_of_the_operators(small, tmp_path):
    program, path = small
    (tmp_path / "images").write_bytes(program.check.image.tobytes())
    shape = (1, *program.check.image.shape)
    said = subprocess.run(
        [sys.executable, "-c", PYTHON, exported(path), tmp_path / f"copy-{build.LIBRARY}",
         tmp_path / "images", str(shape)], text=True, capture_output=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == str([program.check.logits.tolist()])
