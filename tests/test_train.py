import msgspec
import numpy as np
import pytest

from edgesvit.errors import EdgesvitError, UsageError

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.architecture import Architecture, default_pool  # noqa: E402
from edgesvit.batches import evaluate  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.disk import append_line, read_lines  # noqa: E402
from edgesvit.models.checkpoints import model_from_arrays  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402
from edgesvit.train import TrainSettings, metrics_path, train  # noqa: E402

TINY = Architecture(dim=16, depth=1, heads=2, time_steps=2, pool="0011", stem=(8, 8, 16, 16))


@pytest.fixture
def few(tmp_path):
    """A data set of two classes that a tiny model tells apart: bright left or bright right."""
    random = np.random.RandomState(0)
    labels = np.arange(96) % 2
    images = random.randint(0, 60, (96, 8, 8)).astype(np.uint8)
    images[labels == 0, :, :4] += 150
    images[labels == 1, :, 4:] += 150
    path = tmp_path / "few.npz"
    np.savez(path, x_train=images[:64], y_train=labels[:64], x_test=images[64:], y_test=labels[64:])
    return str(path)


@pytest.fixture
def settings(few, tmp_path):
    return TrainSettings(data=few, run=str(tmp_path / "run"), architecture=TINY, epochs=4,
                         batch_size=4, learning_rate=5e-3, warmup_epochs=0.25)


def changed(settings, **changes):
    return msgspec.structs.replace(settings, **changes)


def test_a_training_learns_and_leaves_a_whole_run_folder(settings):
    seen = []
    folder = train(settings, seen.append, command="edgesvit train ...")
    card = folder.card()
    assert card.metrics["test_accuracy"] >= 0.95 and card.metrics["test_images"] == 32
    assert card.command == "edgesvit train ..." and card.labels == ("0", "1") and card.parent == ""
    assert [row["epoch"] for row in read_lines(metrics_path(folder))] == [1, 2, 3, 4]
    assert (seen[-1].epoch, seen[-1].step, seen[-1].steps) == (4, 16, 16)
    names = {p.name for p in folder.path.iterdir()}
    assert names == {"model.json", "weights.safetensors", "metrics.jsonl", "train.json"}
    model = model_from_arrays(card.config, folder.weights())
    assert evaluate(model, load(settings.data, "test")) == card.metrics["test_accuracy"]


def test_digits_are_learned_in_seconds(tmp_path):
    shape = Architecture(dim=32, depth=1, heads=2, time_steps=2, pool="0010", stem=(16, 16, 16, 32))
    settings = TrainSettings(data="digits", run=str(tmp_path / "run"), architecture=shape, epochs=6,
                             batch_size=16, learning_rate=6e-3, warmup_epochs=0.5, shift_px=0)
    assert train(settings).card().metrics["test_accuracy"] >= 0.90


class Stop(Exception):
    pass


def interrupted_at(epoch, step, error=Stop):
    def on_progress(now):
        if (now.epoch, now.step) == (epoch, step):
            raise error

    return on_progress


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_an_interrupted_training_ends_with_the_same_weights(settings, tmp_path, error, ema):
    settings = changed(settings, ema=ema)
    whole = train(changed(settings, run=str(tmp_path / "whole")))
    with pytest.raises(error):
        train(settings, interrupted_at(3, 5, error))
    folder = RunFolder(settings.run)
    assert not folder.card_path.exists()
    with pytest.raises(error):  # interrupted again at once: nothing is lost
        train(settings, interrupted_at(3, 1, error))
    epochs = []
    train(settings, lambda now: epochs.append(now.epoch))
    assert set(epochs) == {3, 4}
    assert [row["epoch"] for row in read_lines(metrics_path(folder))] == [1, 2, 3, 4]
    for name, array in whole.weights().items():
        assert np.array_equal(folder.weights()[name], array), name


def test_the_same_command_after_the_end_changes_nothing(settings):
    folder = train(settings)
    before = folder.card_path.stat().st_mtime_ns
    train(settings, interrupted_at(1, 1))
    assert folder.card_path.stat().st_mtime_ns == before


def test_an_epoch_whose_state_was_lost_is_told_once(settings):
    with pytest.raises(Stop):
        train(settings, interrupted_at(3, 5))
    folder = RunFolder(settings.run)
    append_line(metrics_path(folder), {"epoch": 3, "loss": 0.0})
    train(settings)
    rows = read_lines(metrics_path(folder))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[2]["loss"] > 0


def test_a_training_that_explodes_says_so(settings):
    with pytest.raises(EdgesvitError, match="the loss became .* in epoch 1") as caught:
        train(changed(settings, learning_rate=1e30))
    assert "--lr" in caught.value.hint


def test_a_refused_command_leaves_no_folder(settings, tmp_path):
    run = tmp_path / "new"
    with pytest.raises(UsageError, match="5 heads"):
        train(changed(settings, run=str(run), architecture=Architecture(dim=16, heads=5)))
    assert not run.exists()


def test_other_settings_are_refused(settings):
    with pytest.raises(Stop):
        train(settings, interrupted_at(2, 1))
    with pytest.raises(UsageError, match="was begun with learning_rate 0.005, not 0.1") as caught:
        train(changed(settings, learning_rate=0.1))
    assert "--run" in caught.value.hint


def test_a_damaged_state_is_refused(settings):
    with pytest.raises(Stop):
        train(settings, interrupted_at(2, 1))
    state = RunFolder(settings.run).path / "train-state.pt"
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(UsageError, match="train-state.pt is damaged"):
        train(settings)


def test_fine_tuning_starts_from_the_parent(settings, tmp_path):
    parent = train(settings)
    child = train(changed(settings, run=str(tmp_path / "child"), architecture=None, epochs=1,
                          start=settings.run, learning_rate=1e-9))
    assert child.card().parent == parent.weights_sha256()
    assert child.card().config == parent.card().config
    weight = "block.0.mlp.fc1_linear.weight"
    np.testing.assert_allclose(child.weights()[weight], parent.weights()[weight], atol=1e-6)


def test_fine_tuning_needs_the_same_task_and_no_shape(settings, tmp_path):
    train(changed(settings, epochs=1))
    other = changed(settings, run=str(tmp_path / "child"), start=settings.run)
    with pytest.raises(UsageError, match="none has both"):
        train(other)
    with pytest.raises(UsageError, match="takes 8x8x1 images of 2 classes, digits has 8x8x1 of 10"):
        train(changed(other, architecture=None, data="digits"))


def test_a_folder_with_another_model_is_left_alone(settings):
    folder = train(settings)
    (folder.path / "train.json").unlink()
    with pytest.raises(UsageError, match="already holds a model"):
        train(settings)


@pytest.mark.parametrize(
    ("side", "pool"), [(8, "0001"), (16, "0001"), (28, "0011"), (32, "0011"), (64, "0111"),
                       (224, "1111")])
def test_default_pool(side, pool):
    assert default_pool((side, side)) == pool


def test_bf16_training_runs(settings):
    folder = train(changed(settings, bf16=True))
    assert folder.card().metrics["test_accuracy"] >= 0.9
