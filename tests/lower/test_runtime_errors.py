"""Wrong files, libraries, versions and boards: what a user sees is one line and one exit code."""

import contextlib
import random
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgesvit.boards import over_ssh
from edgesvit.boards.run import run
from edgesvit.errors import DoesNotFit, EdgesvitError, UsageError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.glibc import require_glibc
from edgesvit.lower.runtimes import RUNTIMES, lower
from edgesvit.program.file import write
from edgesvit.program.ops import ChooseTokens, Program
from edgesvit.resources import shipped
from edgesvit.targets import load
from tests.program.programs import Builder, random_image, random_program
from tests.program.test_file import with_check

HOST = load("host")
PLACES = 20  # where a damaged file differs
RUNNER = shipped("firmware") / "litert" / "run.py"


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """A small program through a runtime: artifact and image; skips without its extra."""
    seed = next(seed for seed in range(99) if not chooses(random_program(seed)))
    program = with_check(seed, random_program)
    path = tmp_path_factory.mktemp("errors") / "program.esv"
    write(program, path)

    def through(runtime: str) -> tuple[Artifact, np.ndarray]:
        need(runtime)
        return lower(path, HOST, runtime), program.check.image[None]
    return through


def need(runtime: str) -> None:
    """Skip without the runtime's extra."""
    package = {"executorch": "executorch", "litert": "ai_edge_litert"}[RUNTIMES[runtime].family]
    pytest.importorskip(package, reason=f"needs the {RUNTIMES[runtime].family} extra")


def chooses(program: Program) -> bool:
    """Whether it drops tokens."""
    return any(isinstance(op, ChooseTokens) for op in program.ops)


def placed(artifact: Artifact, images: np.ndarray, folder: Path) -> list[str]:
    for path in (artifact.executable, *artifact.files):
        shutil.copy(path, folder / path.name)
    (folder / "images.bin").write_bytes(images.tobytes())
    return artifact.command(str(folder), str(folder / "images.bin"), 1)


def judged(argv: list[str], model: Path, data: bytes) -> tuple[int, str]:
    """Exit status and stderr of the runner on a file of these bytes; never a signal."""
    model.write_bytes(data)
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode in (0, 1), (done.returncode, done.stderr)
    if done.returncode:
        assert done.stderr.count("\n") == 1 and len(done.stderr) < 400, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("runtime", ["executorch", "litert"])
def test_a_damaged_file_never_crashes_the_runner(lowered, tmp_path, runtime):
    artifact, images = lowered(runtime)
    argv = placed(artifact, images, tmp_path)
    model = tmp_path / artifact.files[0].name
    good = artifact.files[0].read_bytes()
    chosen = random.Random(5)
    for _ in range(PLACES):
        at = chosen.randrange(len(good))
        status, _ = judged(argv, model, good[:at] + bytes([good[at] ^ chosen.randrange(1, 256)])
                           + good[at + 1:])
        assert status or runtime == "executorch"  # a .tflite has a checksum over all
    for _ in range(PLACES // 4):
        assert judged(argv, model, good[:chosen.randrange(len(good))])[0] == 1
    assert judged(argv, model, good)[0] == 0


@pytest.mark.parametrize("runtime", ["executorch", "litert"])
@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: data[:10],
                                    lambda data: b"no such thing" * 9], ids=("half", "ten", "else"))
def test_deploy_says_which_file_and_ends_with_1(lowered, tmp_path, runtime, damage):
    artifact, images = lowered(runtime)
    bad = tmp_path / artifact.files[0].name
    bad.write_bytes(damage(artifact.files[0].read_bytes()))
    with pytest.raises(EdgesvitError, match=bad.name) as caught:
        run(HOST, replace(artifact, files=(bad, *artifact.files[1:])), images, print,
            lambda done: None)
    assert caught.value.exit_code == 1 and "\n" not in caught.value.message


def test_the_operator_library_is_missing(lowered, tmp_path):
    artifact, images = lowered("executorch")
    placed(artifact, images, tmp_path)
    argv = [str(tmp_path / artifact.executable.name), str(tmp_path / "program.pte"),
            str(tmp_path / "images.bin")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "program.pte: needs operators that no --library brings: edgesvit::" in done.stderr
    done = subprocess.run([argv[0], "--library", "./gone.so", *argv[1:]], capture_output=True,
                          text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "./gone.so" in done.stderr


def narrow_model(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A .tflite file with 4-bit weights."""
    pytest.importorskip("ai_edge_litert", reason="needs the litert extra")
    from edgesvit.lower.litert.fast import fast
    build = Builder(np.random.default_rng(3), 2, (4, 4, 2))
    program = build.finish(build.conv(build.encode(32), 64), 5)
    op = replace(program.ops[1], weight=np.clip(program.ops[1].weight, -8, 7), weight_bits=4)
    program = replace(program, ops=(program.ops[0], op, program.ops[2]))
    images = np.stack([random_image(program, seed) for seed in range(3)])
    body = fast(program, images)
    model = tmp_path / "narrow.tflite"
    sealed = body[-8:-4] == b"ESVT"
    model.write_bytes(body if sealed else body + b"ESVT" + struct.pack("<I", zlib.crc32(body)))
    return model, images


def test_tflite_runtime_2_14_refuses_4_bit_weights(tmp_path):
    """The old package's name and version are made up here; what refuses is the real runner."""
    model, images = narrow_model(tmp_path)
    (tmp_path / "images.bin").write_bytes(images.tobytes())
    for name, text in {
        "ai_edge_litert/__init__.py": "raise ImportError", "tflite_runtime/__init__.py": "",
        "tflite_runtime/interpreter.py": "",
        "tflite_runtime-2.14.0.dist-info/METADATA":
            "Metadata-Version: 2.1\nName: tflite-runtime\nVersion: 2.14.0\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, RUNNER, model, tmp_path / "images.bin"], text=True,
                          capture_output=True, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "has 4-bit weights, which tflite-runtime gets wrong; pip install ai-edge-litert" in (
        done.stderr)


@pytest.mark.parametrize(("system", "glibc", "fits"), [
    ("Raspberry Pi OS bookworm", "2.36", True), ("JetPack 6", "2.35", True),
    ("JetPack 5", "2.31", False), ("Raspberry Pi OS bullseye", "2.31", False)])
def test_boards_by_their_glibc(system, glibc, fits):
    if fits:
        require_glibc("2.34", glibc, system)
        return
    with pytest.raises(DoesNotFit) as caught:
        require_glibc("2.34", glibc, system)
    assert caught.value.exit_code == 3
    assert caught.value.message == (f"{system}: this runtime needs glibc 2.34 or newer, the board "
                                    "has 2.31")
    assert "--runtime native, which needs none" in caught.value.hint


class OldBoard:
    """A board that says what JetPack 5 says; it must not be sent anything."""

    def connect(self) -> None:
        """Always there."""

    def describe(self) -> dict[str, object]:
        """As SshBoard.describe."""
        return {"glibc": "2.31"}

    def put(self, *_: object) -> None:
        raise AssertionError("copied to a board that cannot run it")


def test_nothing_is_copied_to_a_board_that_is_too_old(lowered, monkeypatch):
    artifact, images = lowered("executorch")
    monkeypatch.setattr(over_ssh, "ssh_board",
                        lambda target, note: contextlib.nullcontext(OldBoard()))
    with pytest.raises(DoesNotFit, match="jetson-orin-nano: this runtime needs glibc 2") as caught:
        over_ssh.run_ssh(load("jetson-orin-nano"), artifact, images, print)
    assert "JetPack 5 (2.31)" in caught.value.hint


@pytest.mark.parametrize("name", ["litert", "litert-fast", "xnnpack-int8", "xnnpack-fp32"])
def test_runtimes_without_a_form_say_which_has_one(tmp_path, name):
    """Choosing tokens: 64-bit scores that neither float32 nor XNNPACK has."""
    need(name)
    program = next(p for p in map(random_program, range(99)) if chooses(p))
    path = tmp_path / "program.esv"
    write(program, path)
    images = np.stack([random_image(program, seed) for seed in range(4)])
    with pytest.raises(UsageError, match="has no form|no form of") as caught:
        lower(path, HOST, name, images)
    assert "\n" not in caught.value.message and caught.value.exit_code == 2
    assert caught.value.hint.startswith("--runtime ")
