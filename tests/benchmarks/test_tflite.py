"""The LiteRT files that the benchmark writes itself."""

import numpy as np
import pytest

interpreter = pytest.importorskip("ai_edge_litert.interpreter")

from peers import litert  # noqa: E402
from peers.layers import Layer, random_spikes, random_weight  # noqa: E402


def run(model, x):
    it = interpreter.Interpreter(model_content=model, num_threads=1)
    it.allocate_tensors()
    it.set_tensor(it.get_input_details()[0]["index"], x)
    it.invoke()
    return it.get_tensor(it.get_output_details()[0]["index"])


def test_linear_layer_is_the_integer_product():
    layer = Layer(64, 32, side=4)
    spikes = random_spikes(layer).astype(np.int8)
    real = spikes.astype(np.int64) @ random_weight(layer).astype(np.int64) * 0.01 / 0.5
    expected = np.clip(np.rint(real), -128, 127)
    assert np.abs(run(litert.model(layer), spikes) - expected).max() <= 1


def test_convolution_pads_with_no_spike():
    layer = Layer(16, 8, 3, time_steps=1, side=4)
    spikes = np.zeros((1, 4, 4, 16), np.int8)
    spikes[0, 0, 0, 3] = 1
    weight = random_weight(layer).reshape(3, 3, 16, 8)
    expected = np.rint(weight[1, 1, 3] * 0.01 / 0.5)  # the middle tap sees the corner itself
    assert np.abs(run(litert.model(layer), spikes)[0, 0, 0] - expected).max() <= 1


def test_spiking_model_gives_the_programs_classes():
    from edgesvit.boards.local import HostProgram
    from edgesvit.cli.options import dataset, model_folder
    from edgesvit.evaluate import program_of
    from edgesvit.lower.litert.fast import fast
    from edgesvit.program.file import to_bytes
    source = model_folder(None)
    data = dataset(None, source)
    program = program_of(source.card(), source.weights(), data)
    images = data.images[:20]
    ours = HostProgram(to_bytes(program)).run(images).argmax(1)
    model = fast(program, images)
    theirs = [run(model, (image.astype(np.int16) - 128).astype(np.int8)[None]).argmax()
              for image in images]
    assert np.mean(ours == theirs) >= 0.9
