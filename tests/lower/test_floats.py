"""Spike programs in float32: the form that XNNPACK takes."""

import numpy as np
import pytest

from edgesvit.boards.run import run
from edgesvit.cli.options import model_folder
from edgesvit.data import load
from edgesvit.errors import UsageError
from edgesvit.evaluate import program_of
from edgesvit.lower.executorch.xnnpack import lower
from edgesvit.program.file import write
from edgesvit.program.interpret import run as interpret
from edgesvit.program.ops import ChooseTokens
from edgesvit.targets import load as target
from tests.program.programs import random_image, random_program

torch = pytest.importorskip("torch")
pytest.importorskip("executorch", reason="needs the executorch extra")
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


def test_int8_layers_keep_whole_numbers_whole():
    from edgesvit.lower.executorch.quantize import _Int8, quantize
    _, net = network("spikformer")
    images = load("digits", "train").images[:8]
    quantize(net, images)
    layers = [layer for layer in net.modules() if isinstance(layer, _Int8)]
    spiking = layers[1:-1]  # pixels have a mean taken off, the classifier reads sums over tokens
    assert len(spiking) > 8 and {layer.given[0] for layer in spiking} == {1.0}
    assert all(layer.weight.dtype == torch.int8 for layer in layers)
    with torch.no_grad():
        logits = net(torch.from_numpy(images[0].astype(np.float32)))
    assert logits.isfinite().all()


def test_a_program_is_one_delegate_with_nothing_left_over(tmp_path):
    """The smallest of many: every operator and step costs the export a while."""
    program = min((p for p in map(random_program, range(99)) if not any(
        isinstance(op, ChooseTokens) for op in p.ops)), key=lambda p: len(p.ops) * p.time_steps)
    path = tmp_path / "program.esv"
    write(program, path)
    images = np.stack([random_image(program, seed) for seed in range(6)])
    for mode, exact in (("fp32", True), ("int8", False)):
        artifact = lower(path, target("host"), mode, images)
        assert artifact.notes["delegates"] == ["1 x XnnpackBackend"]
        assert artifact.notes["operators"] == []
        board = run(target("host"), artifact, images, print, lambda done: None)
        wanted = np.stack([interpret(program, image) for image in images])
        assert np.array_equal(board.logits, wanted) or not exact
        assert np.abs(board.logits - wanted).max() <= np.abs(wanted).max()
