"""Event frames from file to integer program."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.architecture import Architecture, new_config  # noqa: E402
from edgesvit.boards.local import HostProgram  # noqa: E402
from edgesvit.data import load, normalise  # noqa: E402
from edgesvit.errors import UsageError  # noqa: E402
from edgesvit.evaluate import integer_accuracy, program_of  # noqa: E402
from edgesvit.program.file import to_bytes  # noqa: E402
from edgesvit.program.interpret import run  # noqa: E402
from edgesvit.program.ops import Kind  # noqa: E402
from edgesvit.train import TrainSettings, train  # noqa: E402

SMALL = {"dim": 16, "depth": 1, "heads": 2, "pool": "0010", "stem": (8, 8, 16, 16)}


@pytest.fixture
def events(tmp_path):
    """Two classes of 3 frames, 2 polarities, 8x8: a bar of counts moves right, or left."""
    random = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 2
        frames = random.poisson(0.1, (count, 3, 2, 8, 8)).astype(np.uint8)
        for sample, label in enumerate(labels):
            for t in range(3):
                frames[sample, t, 0, :, 1 + 2 * t if label else 6 - 2 * t] += 3
        return frames, labels.astype(np.uint8)

    arrays = {}
    for name, count in (("train", 128), ("test", 32)):
        arrays[f"frames_{name}"], arrays[f"label_{name}"] = split(count)
    path = tmp_path / "events.npz"
    np.savez(path, **arrays)
    return path, arrays


def test_frames_are_channels_last_and_counts_stay_counts(events):
    path, arrays = events
    data = load(str(path), "test")
    assert data.frames == 3 and data.image_size == (8, 8) and data.channels == 2
    assert (data.images == arrays["frames_test"].transpose(0, 1, 3, 4, 2)).all()
    assert np.allclose(normalise(data.images, data.mean, data.std), arrays["frames_test"])


@pytest.mark.parametrize(("family", "field", "form"), [("spikformer", "form", "dvs"),
                                                       ("sdt_v1", "events", True)])
def test_an_event_model_trains_and_runs_as_integers(events, tmp_path, family, field, form):
    path, _ = events
    shape = Architecture(family=family, **SMALL)
    folder = train(TrainSettings(data=str(path), run=str(tmp_path / "run"), architecture=shape,
                                 epochs=8, batch_size=16, learning_rate=5e-3, shift_px=0))
    data, card = load(str(path), "test"), folder.card()
    assert getattr(card.config, field) == form and card.config.time_steps == 3
    assert card.metrics["test_accuracy"] > 0.9
    program = program_of(card, folder.weights(), data)
    assert program.input.kind == Kind.LEVELS
    expected = np.stack([run(program, image) for image in data.images[:6]])
    assert (HostProgram(to_bytes(program)).run(data.images[:6]) == expected).all()
    assert integer_accuracy(program, data) > 90


def test_other_families_and_other_steps_are_refused(events):
    data = load(str(events[0]), "train")
    with pytest.raises(UsageError, match="sdt_v2 cannot be trained on"):
        new_config(Architecture(family="sdt_v2"), data)
    with pytest.raises(UsageError, match="has 3 frames, not 8"):
        new_config(Architecture(time_steps=8), data)
