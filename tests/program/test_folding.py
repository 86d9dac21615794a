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
from edgesvit.program.ops import Kind, Program

pytest.importorskip("torch")
import torch  # noqa: E402

FAMILIES = ("spikformer", "spikformer_cifar", "qkformer", "qkformer_cifar", "sdt_v1", "sdt_v2",
            "sdt_v3")
FINE = 2**26


@pytest.fixture
def fine(monkeypatch):
    """Weights, biases and thresholds of 26 bits, membranes of 32, rescaled in float64."""
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
        emitter.level_thresholds(self.levels, unit) if self.levels else 1.0 / unit))
    monkeypatch.setattr(builder, "validate", lambda program: program)
    monkeypatch.setattr(interpret, "follow", follow)


def head(program: Program, env: dict, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The float classifier on what the program's classifier reads."""
    op = program.ops[-1]
    stored = env[op.input]
    levels = (interpret.decode(stored, program.time_steps)
              if program.value(op.input).kind == Kind.SPIKES else stored)
    return weights["head.weight"] @ levels.mean((0, 1, 2)) + weights["head.bias"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folded_model_equals_the_unfolded_one(shared, family, fine):
    from edgesvit.models.families import FAMILIES as MODULES
    from tests.models.official import load

    official = load(shared / "fixtures" / family / "public", MODULES[family.removesuffix("_cifar")])
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
        assert np.abs(head(program, env, weights) - expected.numpy()).max() < 1e-5
