"""Folding is exact: with fine weights a program is the float model, neuron by neuron.

A program differs from its float model by the rounding of weights and membranes alone. Here those
are 2**-26 of the largest instead of 2**-7, so batch norms, RepConv chains, pixel normalisation,
poolings, residual streams, thresholds and scales must fold to the very same neurons.
"""

import numpy as np
import pytest

from edgesvit.program import build as builder
from edgesvit.program import interpret
from edgesvit.program.build import emitter
from edgesvit.program.ops import Kind, Program, Value

pytest.importorskip("torch")
import torch  # noqa: E402

from tests.program import forms  # noqa: E402

FIXTURES = ("spikformer/public", "spikformer_cifar/public", "qkformer/public",
            "qkformer_cifar/public", "sdt_v1/public", "sdt_v2/public", "sdt_v3/public",
            "sdt_v3_large/public", "sdt_v3_large/base_injected")
FINE = 2**26


@pytest.fixture
def fine(monkeypatch):
    """Weights, biases and thresholds of 26 bits, membranes of 32, rescaled in float64.

    What would be classified is collected in the list that this returns.
    """
    def quantize(weight, bias, bits=8, largest=1.0):
        scale = np.maximum(np.abs(weight).max(0), 1e-12) / FINE
        return (np.rint(weight / scale).astype(np.int64), np.rint(bias / scale).astype(np.int64),
                scale)

    def follow(op, out, current, stream):
        if out.kind != Kind.MEMBRANE:
            return interpret.fire(out.kind, current, op.threshold)
        return np.rint(current * op.scale).astype(np.int64) + (0 if stream is None else stream)

    monkeypatch.setattr(emitter, "quantize", quantize)
    monkeypatch.setattr(emitter, "lif_threshold", lambda threshold, unit, lost=0.0:
                        threshold / unit - lost)
    monkeypatch.setattr(emitter, "MAX_MEMBRANE", 2**32)
    monkeypatch.setattr(emitter, "SUM_LIMIT", 2**42)  # of 8-bit weights: 2**60 of ours
    monkeypatch.setattr(emitter, "requantize", lambda ratio: (ratio, 0))
    monkeypatch.setattr(emitter, "int16_certificate", lambda *constants: None)
    monkeypatch.setattr(emitter.Emitter, "_threshold", lambda self, unit, lost=0.0: (
        emitter.level_thresholds(self.levels, unit, half_up=self.half_up) if self.levels
        else 1.0 / unit))
    monkeypatch.setattr(builder, "validate", lambda program: program)
    monkeypatch.setattr(interpret, "follow", follow)
    read = []
    monkeypatch.setattr(builder, "classify",
                        lambda emit, sources: read.extend((s, emit.units) for s in sources))
    return read


def head(program: Program, env: dict, weights: dict[str, np.ndarray], read: list) -> np.ndarray:
    """The mean of the float classifiers on what the program's classifiers read."""
    def scores(name: str, source: Value, units: dict[str, np.ndarray]) -> np.ndarray:
        stored = env[source.name]
        levels = (interpret.decode(stored, program.time_steps) if source.kind == Kind.SPIKES
                  else stored * units.get(source.name, 1.0))
        return weights[f"{name}.weight"] @ levels.mean((0, 1, 2)) + weights[f"{name}.bias"]

    return np.mean([scores(name, *source) for name, source in
                    zip(("head", "head_kd"), read, strict=False)], axis=0)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_the_folded_model_equals_the_unfolded_one(shared, fixture, fine):
    from edgesvit.models.families import FAMILIES as MODULES
    from tests.models.official import load

    family = fixture.split("/")[0].removesuffix("_cifar")
    official = load(shared / "fixtures" / fixture, MODULES[family])
    mean, std = (0.4, 0.4, 0.4), (0.2, 0.2, 0.2)
    x = official.images.numpy().transpose(0, 2, 3, 1)  # normalised, not 0..255
    images = np.clip(np.rint(255 * (x * std + mean)), 0, 255).astype(np.uint8)[:2]
    weights = {name: tensor.numpy() for name, tensor in official.model.state_dict().items()}
    program = builder.build(official.model.config, weights, mean, std)
    for image in images:
        env = interpret.trace(program, np.ascontiguousarray(image))
        # In float64 too: a membrane next to its threshold would tell float32 from integers.
        x = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[None])
        with torch.inference_mode():
            expected = official.model.double()(x)[0]
        assert np.abs(head(program, env, weights, fine) - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("make", [forms.event_model, lambda: forms.large_model(sr_ratio=2)],
                         ids=["sdt_v1 of events", "sdt_v3_large of wide values"])
def test_forms_without_fixtures_fold_too(make, fine):
    model, images = make()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    program = forms.program_of(model)
    env = interpret.trace(program, images[0])
    expected = forms.scores(model, images[:1])[0]
    assert np.abs(head(program, env, weights, fine) - expected).max() < 1e-5
