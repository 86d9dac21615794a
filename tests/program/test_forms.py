"""The event form of SDT-V1 and SDT-V3's Model_Large as programs (test_folding: what they mean)."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.boards.local import HostProgram  # noqa: E402
from edgesvit.program import build as builder  # noqa: E402
from edgesvit.program.build.classifier import classify  # noqa: E402
from edgesvit.program.file import from_bytes, to_bytes  # noqa: E402
from edgesvit.program.interpret import decode, run, trace  # noqa: E402
from edgesvit.program.ops import (  # noqa: E402
    Classify,
    HadamardAttention,
    Kind,
    MaxPool,
    Program,
)
from tests.program import forms  # noqa: E402
from tests.program.programs import roads  # noqa: E402

LARGE = [{"kd": True, "choice": "base", "sr_ratio": 2, "levels": 8}, {"kd": False,
                                                                    "choice": "large"}]


def assert_same_everywhere(program: Program, images: np.ndarray) -> np.ndarray:
    expected = np.stack([run(program, image) for image in images])
    assert to_bytes(from_bytes(to_bytes(program))) == to_bytes(program)
    host = HostProgram(to_bytes(program))
    for name in roads():
        for threads in (1, 3):
            assert np.array_equal(host.run(images, name, threads), expected)
    return expected


def test_the_event_form_of_sdt_v1():
    model, frames = forms.event_model()
    program = forms.program_of(model)
    attention = [op for op in program.ops if isinstance(op, HadamardAttention)]
    assert [op.heads for op in attention] == [3, 3]
    assert [op.stride for op in program.ops if isinstance(op, MaxPool)] == [2, 1, 1, 1, 1]
    passed = decode(trace(program, frames[0])[attention[1].output], 3)
    assert 0.05 < passed.mean() < 0.95
    logits = assert_same_everywhere(program, frames)
    assert len({row.tobytes() for row in logits}) == len(frames)


@pytest.mark.parametrize("form", LARGE)
def test_model_large(form):
    model, images = forms.large_model(**form)
    program = forms.program_of(model)
    heads = [op for op in program.ops if isinstance(op, Classify)]
    assert [program.value(op.input).kind for op in heads] == (
        [Kind.MEMBRANE, Kind.LEVELS] if form["kd"] else [Kind.MEMBRANE])
    assert heads[-1].stream == ("logits.head" if form["kd"] else "")
    logits = assert_same_everywhere(program, images)
    assert len({row.tobytes() for row in logits}) == len(images)


@pytest.mark.parametrize("form", LARGE)
def test_integer_classifiers_are_the_float_ones_on_what_they_read(form, monkeypatch):
    """But for the rounding of their weights: up to a factor, the scores are the same."""
    model, images = forms.large_model(**form)
    emits = []
    monkeypatch.setattr(builder, "classify", lambda emit, sources: (
        emits.append(emit), classify(emit, sources)))
    program = forms.program_of(model)
    logits, scores = [], []
    for image in images:
        env = trace(program, image)
        logits.append(env[program.output.name].ravel())
        reads = [op.input for op in program.ops if isinstance(op, Classify)]
        means = [env[name].mean((0, 1, 2)) * emits[0].units.get(name, 1.0) for name in reads]
        weights = emits[0].weights
        scores.append(sum(weights[f"{name}.weight"] @ mean + weights[f"{name}.bias"]
                          for name, mean in zip(("head", "head_kd"), means, strict=False)))
    logits, scores = np.array(logits), np.array(scores)
    factor = (logits * scores).sum() / (scores * scores).sum()
    assert np.abs(logits / factor - scores).max() < 0.03 * scores.std()
