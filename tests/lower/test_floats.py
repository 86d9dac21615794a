"""Spike programs in float32: the form that XNNPACK takes."""

import numpy as np
import pytest

from edgesvit.cli.options import model_folder
from edgesvit.data import load
from edgesvit.errors import UsageError
from edgesvit.evaluate import program_of
from edgesvit.lower.executorch.xnnpack import lower
from edgesvit.program.interpret import run as interpret
from edgesvit.targets import load as target

torch = pytest.importorskip("torch")
FAMILIES = ["spikformer", "qkformer", "sdt_v1", "sdt_v2", "sdt_v3"]


def network(family: str, twin: bool = False):
    from edgesvit.lower.executorch.floats import FloatProgram
    model = model_folder(f"{family}-digits")
    program = program_of(model.card(), model.weights(), load("digits", "test"))
    return program, FloatProgram(program, twin).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_interpreter_s_numbers(family):
    program, net = network(family)
    for image in load("digits", "test").images[:3]:
        with torch.no_grad():
            logits = net(torch.from_numpy(image.astype(np.float32)))
        assert logits.tolist() == interpret(program, image).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_twin_is_one_pass_of_the_same_shape(family):
    program, net = network(family, twin=True)
    image = torch.from_numpy(load("digits", "test").images[0].astype(np.float32))
    with torch.no_grad():
        logits = net(image)
    assert logits.shape == (program.output.shape[2],) and logits.isfinite().all()
    assert net.steps == 1


def test_int8_without_images_is_told(tmp_path):
    with pytest.raises(UsageError, match="images to choose its scales"):
        lower(tmp_path / "program.esv", target("host"), "int8", None)
