"""The layers that the kernels are compared on."""

import pytest
from peers import own
from peers.layers import Firing, Layer
from peers.own import Host, count

LAYERS = [Layer(64, 128, side=4), Layer(32, 64, 3, time_steps=2, side=6),
          Layer(48, 192, side=4, time_steps=1)]


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("kernel", ["ours", "dense"])
def test_kernels_equal_the_definition(host, layer, kernel):
    host.reset()
    host.check(kernel, host.open(layer, Firing(20, "lif")))


@pytest.mark.parametrize("bits", range(2, 8))
def test_packed_weights_equal_the_definition(host, bits):
    host.reset()
    host.check("ours", host.open(LAYERS[0].packed(bits), Firing(20)))


@pytest.mark.parametrize("source", ["lif", "bernoulli"])
@pytest.mark.parametrize("rate", [5, 15, 40])
def test_spikes_have_the_asked_rate(host, source, rate):
    host.reset()
    measured, union = host.rates(host.open(Layer(256, 64, side=8), Firing(rate, source)))
    assert measured == pytest.approx(rate / 100, abs=0.02)
    assert measured < union < 4 * measured


def test_lif_spikes_of_a_neuron_are_alike(host):
    host.reset()
    layer = Layer(256, 64, side=8)
    unions = [host.rates(host.open(layer, Firing(15, source)))[1]
              for source in ("lif", "bernoulli")]
    assert unions[0] < 0.8 * unions[1]


@pytest.mark.emulated
@pytest.mark.parametrize("cpu", ["cortex-a76", "cortex-a72", "cortex-m4", "cortex-m55"])
def test_counts_are_exact_and_kernels_right(cpu, tmp_path, monkeypatch):
    first = count(cpu, "ours", LAYERS[0], Firing())
    monkeypatch.setattr(own, "cache_dir", lambda *_: tmp_path)  # counted again, checked again
    assert count(cpu, "ours", LAYERS[0], Firing()) == first
    assert count(cpu, "dense", LAYERS[0], Firing()).instructions > 0
