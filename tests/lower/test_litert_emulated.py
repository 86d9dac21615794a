"""The same .tflite file on emulated processors: aarch64 LiteRT gives the interpreter's logits."""

import shutil

import numpy as np
import pytest

pytest.importorskip("flatbuffers", reason="needs the litert extra")
pytest.importorskip("ai_edge_litert", reason="needs the litert extra")

from edgesvit.boards.run import run  # noqa: E402
from edgesvit.cli.options import dataset, model_folder  # noqa: E402
from edgesvit.errors import EdgesvitError, UsageError  # noqa: E402
from edgesvit.evaluate import program_of  # noqa: E402
from edgesvit.lower.litert import package  # noqa: E402
from edgesvit.lower.runtimes import lower  # noqa: E402
from edgesvit.program import interpret  # noqa: E402
from edgesvit.program.file import write  # noqa: E402
from edgesvit.targets import load  # noqa: E402


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    for program in ("qemu-aarch64", "aarch64-linux-gnu-gcc"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    try:
        package.arm_library()
    except EdgesvitError as error:
        pytest.skip(f"needs the aarch64 wheel: {error.message}")
    source = model_folder("sdt_v1-digits")
    data = dataset(None, source)
    program = program_of(source.card(), source.weights(), data)
    path = tmp_path_factory.mktemp("litert") / "program.esv"
    write(program, path)
    return path, program, data.images[:2]


@pytest.mark.emulated
@pytest.mark.parametrize("name", ("qemu-user-a72", "qemu-user-a76"))
def test_exact_on_each_processor(deployed, name):
    path, program, images = deployed
    target = load(name)
    board = run(target, lower(path, target, "litert", images), images, print, print)
    assert np.array_equal(board.logits, [interpret.run(program, image) for image in images])
    assert "arena" not in board.observed_bytes  # memory under emulation is the emulator's
    if board.instructions:
        assert min(board.instructions) > 100_000


@pytest.mark.emulated
def test_fast_gives_the_same_on_both_processors(deployed):
    path, _, images = deployed
    both = [run(target, lower(path, target, "litert-fast", images), images, print, print).logits
            for target in map(load, ("qemu-user-a72", "qemu-user-a76"))]
    assert np.array_equal(*both)


def test_the_delegate_needs_python_on_the_board(deployed):
    with pytest.raises(UsageError, match="needs a Python with ai-edge-litert"):
        lower(deployed[0], load("qemu-user-a76"), "litert-kernels", deployed[2])
