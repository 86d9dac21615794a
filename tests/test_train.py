import msgspec
import numpy as np
import pytest

from edgesvit.errors import UsageError

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.data import load, normalise  # noqa: E402
from edgesvit.disk import read_lines  # noqa: E402
from edgesvit.models.checkpoints import model_from_arrays  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402
from edgesvit.train import (  # noqa: E402
    Architecture,
    TrainSettings,
    _Batches,
    default_pool,
    evaluate,
    metrics_path,
    normalised,
    train,
)

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
                         batch_size=8, learning_rate=5e-3, warmup_epochs=0.5)


def changed(settings, **changes):
    return msgspec.structs.replace(settings, **changes)


def test_a_training_learns_and_leaves_a_whole_run_folder(settings):
    seen = []
    folder = train(settings, seen.append, command="edgesvit train ...")
    card = folder.card()
    assert card.metrics["test_accuracy"] >= 0.95 and card.metrics["test_images"] == 32
    assert card.command == "edgesvit train ..." and card.labels == ("0", "1") and card.parent == ""
    assert [row["epoch"] for row in read_lines(metrics_path(folder))] == [1, 2, 3, 4]
    assert (seen[-1].epoch, seen[-1].step, seen[-1].steps) == (4, 8, 8)
    names = {p.name for p in folder.path.iterdir()}
    assert names == {"model.json", "weights.safetensors", "metrics.jsonl", "train.json"}
    model = model_from_arrays(card.config, folder.weights())
    assert evaluate(model, load(settings.data, "test")) == card.metrics["test_accuracy"]


def test_digits_are_learned_quickly(tmp_path):
    shape = Architecture(dim=32, depth=1, heads=2, time_steps=2)
    folder = train(TrainSettings(data="digits", run=str(tmp_path / "run"), architecture=shape,
                                 epochs=8, batch_size=32, learning_rate=6e-3))
    assert folder.card().metrics["test_accuracy"] >= 0.90


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


def batches(few, **changes):
    dataset = load(few, "train")
    settings = TrainSettings(data=few, run="", batch_size=64, **changes)
    return dataset, _Batches(dataset, settings)


def test_batches_without_augmentation_are_the_normalised_images(few):
    dataset, source = batches(few, shift_px=0, flip=False)
    ((images, labels),) = source.epoch(0, 1)
    expected = normalise(dataset.images, dataset.mean, dataset.std)
    order = [int(np.argmin(np.abs(expected - image.numpy()).max((1, 2, 3)))) for image in images]
    assert sorted(order) == list(range(64))
    np.testing.assert_allclose(images.numpy(), expected[order], atol=1e-5)
    assert np.array_equal(labels.numpy(), dataset.labels[order])
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_shifts_bring_in_background_and_repeat_with_the_epoch(few):
    dataset, source = batches(few, shift_px=2, flip=False)
    (first, _), (again, _), (other, _) = (next(iter(source.epoch(e, 1))) for e in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    black = (0 - dataset.mean[0]) / dataset.std[0]
    empty_rows = (first[:, 0] - black).abs().amax(2) < 1e-6  # [B, H]
    assert 0.2 < empty_rows[:, 0].float().mean() < 0.6  # two of five shifts go down
    assert not empty_rows[:, 3].any()


def test_flips_mirror_about_half_of_the_images(few):
    dataset, source = batches(few, shift_px=0, flip=True)
    images, labels = next(iter(source.epoch(0, 1)))
    bright_left = images[:, 0, :, :4].mean((1, 2)) > images[:, 0, :, 4:].mean((1, 2))
    mirrored = (bright_left != (labels == 0)).float().mean()
    assert 0.3 < mirrored < 0.7


def test_normalised_equals_the_shared_normalisation():
    pixels = np.random.RandomState(1).randint(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    ours = normalised(torch.from_numpy(pixels), mean, std)
    np.testing.assert_allclose(ours.numpy(), normalise(pixels, mean, std), atol=1e-5)


@pytest.mark.parametrize(
    ("side", "pool"), [(8, "0001"), (16, "0001"), (28, "0011"), (32, "0011"), (64, "0111"),
                       (224, "1111")])
def test_default_pool(side, pool):
    assert default_pool((side, side)) == pool


def test_bf16_training_runs(settings):
    folder = train(changed(settings, bf16=True))
    assert folder.card().metrics["test_accuracy"] >= 0.9
