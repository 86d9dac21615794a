"""ExecuTorch on emulated boards: equal logits, few instructions more, copied once."""

import pytest

from edgesvit import profiles
from edgesvit.boards import ssh
from edgesvit.cli.options import model_folder
from edgesvit.data import load
from edgesvit.deploy import deploy, prepare
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.lower.executorch import wheel
from edgesvit.run_folder import RunFolder
from tests.emulated.test_deploy import target_or_skip

pytestmark = pytest.mark.emulated


def ready_or_skip(name: str):
    """The target, where all is here that executorch needs for it."""
    target = target_or_skip(name)
    try:
        wheel.sdk(target)
    except (UsageError, EdgesvitError) as error:
        pytest.skip(f"{error.message}: {error.hint}")
    return target


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    return prepare(model_folder(None), folder, load("digits", "test"), 4)


def test_instructions_are_within_a_tenth_of_native(deployment):
    target = ready_or_skip("qemu-user-a76")
    counts = {}
    for runtime in ("native", "executorch"):
        result = deploy(deployment, target, profiles.load("fit"), lambda text: None,
                        runtime=runtime)
        assert result.logits_equal == 4 and result.runtime == runtime
        counts[runtime] = result.instructions_per_inference.median
    assert counts["native"] < counts["executorch"] < 1.1 * counts["native"]


def test_an_armv8_0_core_runs_the_same_files(deployment):
    result = deploy(deployment, ready_or_skip("qemu-user-a72"), profiles.load("fit"),
                    lambda text: None, runtime="executorch")
    assert result.logits_equal == 4
    used = {row.use: row for row in result.memory}
    assert used["arena"].observed_bytes <= used["arena"].estimated_bytes


@pytest.mark.parametrize(("runtime", "files"), [
    ("executorch", ("program.pte", "libexecutorch.so")),
    ("litert", ("program-exact.tflite", "libLiteRt.so"))])
def test_over_ssh_what_is_there_is_not_copied_again(deployment, monkeypatch, runtime, files):
    if runtime == "litert":
        pytest.importorskip("flatbuffers", reason="needs the litert extra")
    target, copied = ready_or_skip("qemu-aarch64"), []
    real = ssh.SshBoard.put

    def put_twice(board, files, folder):
        copied.extend((real(board, files, folder), real(board, files, folder)))
        return copied[0]
    monkeypatch.setattr(ssh.SshBoard, "put", put_twice)
    result = deploy(deployment, target, profiles.load("fit"), lambda text: None,
                    runtime=runtime)
    assert result.logits_equal == 4 and result.latency_us is None
    assert set(files) < set(copied[0]) and copied[1] == ()
    for use in ("code", "io"):  # what the files say is what the process maps
        [row] = [row for row in result.memory if row.use == use]
        assert row.estimated_bytes == row.observed_bytes > 0
    glibc = result.environment["before"]["glibc"]
    assert tuple(map(int, glibc.split("."))) >= (2, 31)
