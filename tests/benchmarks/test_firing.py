"""Thresholds scaled to a firing rate, and the spikes of trained models."""

import numpy as np
import pytest
from peers import firing, neuron, recorded

from edgesvit.cli.options import dataset, model_folder
from edgesvit.evaluate import program_of
from edgesvit.program import interpret
from edgesvit.program.ops import Kind


@pytest.fixture(scope="module")
def digits():
    source = model_folder(None)
    data = dataset(None, source)
    return program_of(source.card(), source.weights(), data), data.images[0]


@pytest.mark.parametrize("way", ["inputs", "neurons"])
def test_layers_fire_at_the_wanted_rate(digits, way):
    program, image = digits
    scaled, layers = firing.calibrated(program, image, 0.2, way)
    assert firing.calibrated(program, image, 0.2, way)[1] == layers
    if way == "inputs":
        rates = [layer.rate for layer in layers if layer.kind == Kind.SPIKES]
        assert np.mean(rates) == pytest.approx(0.2, abs=0.04)
    else:
        env = interpret.trace(scaled, image)
        rates = [firing.share(env[layer.name], program.time_steps) for layer in layers]
        assert np.mean(rates) == pytest.approx(0.2, abs=0.04)
    for layer in layers:
        assert layer.rate <= layer.union <= 1


def test_mean_firing_is_weighted_by_macs():
    layers = [firing.LayerInput("a", Kind.SPIKES, 3, 0.1, 0.2),
              firing.LayerInput("b", Kind.LEVELS, 1, 0.5, 0.6)]
    assert firing.mean_firing(layers) == pytest.approx((0.2, 0.3))


def test_recorded_codes_are_what_the_layer_reads(digits):
    program, image = digits
    env = interpret.trace(program, image)
    found = recorded.recordings(program, image)
    assert found
    for r in found:
        op = next(op for op in program.ops if op.output == r.name)
        assert r.real.codes.read_bytes() == env[op.input].tobytes()
        assert r.layer.side**2 * r.layer.channels == env[op.input].size


def test_neuron_is_what_grows_with_tokens_times_channels():
    def cost(layer):
        tokens, channels = layer.side**2, layer.out_channels
        return 1000 + 7 * tokens + 5 * channels + tokens * channels * (1 + 2 * layer.time_steps)

    assert neuron.neuron(cost) == neuron.Neuron(whole=9 / 4, step=2)
