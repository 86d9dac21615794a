"""One table of runtimes, and what an artifact becomes on a board."""

from pathlib import Path

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.errors import UsageError
from edgesvit.lower.artifact import IMAGES, THREADS, Artifact
from edgesvit.lower.runtimes import RUNTIMES, lower

NONE = np.zeros((0, 8, 8, 1), np.uint8)


def test_a_command_names_the_places_on_the_board():
    artifact = Artifact("any", Path("/cache/1/run"), {}, files=(Path("/cache/2/net.pte"),),
                        arguments=("--threads", THREADS, "net.pte", IMAGES, "--fast"))
    assert artifact.command("there", "there/images.bin", 3) == [
        "there/run", "--threads", "3", "there/net.pte", "there/images.bin", "--fast"]


@pytest.mark.parametrize("name", targets.names())
def test_targets_list_runtimes_that_exist(name):
    target = targets.load(name)
    assert set(target.runtimes) <= {runtime.family for runtime in RUNTIMES.values()}
    assert "native" in target.runtimes
    assert target.kind != "mcu" or target.runtimes == ("native",)


def test_a_runtime_that_the_target_lacks_is_told():
    with pytest.raises(UsageError, match="nucleo-h743zi does not run executorch; it runs native"):
        lower(Path("program.esv"), targets.load("nucleo-h743zi"), "executorch", NONE)
    with pytest.raises(UsageError, match="unknown runtime 'onnx'; known: native, executorch"):
        lower(Path("program.esv"), targets.load("host"), "onnx", NONE)


def test_the_native_runtime_has_no_twin():
    with pytest.raises(UsageError, match="native runtime has no twin"):
        lower(Path("program.esv"), targets.load("host"), "native", NONE, twin=True)
