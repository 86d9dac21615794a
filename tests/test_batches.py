import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.batches import Batches, normalised  # noqa: E402
from edgesvit.data import Dataset, normalise  # noqa: E402


@pytest.fixture
def dataset():
    """64 drawings, bright on the left (class 0) or on the right (class 1)."""
    random = np.random.RandomState(0)
    labels = np.arange(64) % 2
    images = random.randint(10, 60, (64, 8, 8, 1)).astype(np.uint8)
    images[labels == 0, :, :4] += 150
    images[labels == 1, :, 4:] += 150
    return Dataset(images, labels, ("left", "right"), (0.4,), (0.3,), "sides")


def whole_epoch(dataset, epoch=0, *, shift_px=0, flip=False):
    source = Batches(dataset, size=64, shift_px=shift_px, flip=flip, seed=1)
    (batch,) = source.epoch(epoch)
    return batch


def test_batches_without_augmentation_are_the_normalised_images(dataset):
    images, labels = whole_epoch(dataset)
    expected = normalise(dataset.images, dataset.mean, dataset.std)
    order = [int(np.argmin(np.abs(expected - image.numpy()).max((1, 2, 3)))) for image in images]
    assert sorted(order) == list(range(64)) and order != list(range(64))
    np.testing.assert_allclose(images.numpy(), expected[order], atol=1e-5)
    assert np.array_equal(labels.numpy(), dataset.labels[order])
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_shifts_bring_in_background_and_repeat_with_the_epoch(dataset):
    first, again, other = (whole_epoch(dataset, e, shift_px=2)[0] for e in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    black = (0 - dataset.mean[0]) / dataset.std[0]
    empty_rows = (first[:, 0] - black).abs().amax(2) < 1e-6  # [B, H]
    assert 0.2 < empty_rows[:, 0].float().mean() < 0.6  # two of five shifts go down
    assert not empty_rows[:, 3].any()


def test_photos_repeat_their_edge(dataset):
    import dataclasses

    images = whole_epoch(dataclasses.replace(dataset, photos=True), shift_px=2)[0]
    black = (0 - dataset.mean[0]) / dataset.std[0]
    assert images.min() > black + 0.01


def test_flips_mirror_about_half_of_the_images(dataset):
    images, labels = whole_epoch(dataset, flip=True)
    bright_left = images[:, 0, :, :4].mean((1, 2)) > images[:, 0, :, 4:].mean((1, 2))
    mirrored = (bright_left != (labels == 0)).float().mean()
    assert 0.3 < mirrored < 0.7


def test_an_incomplete_batch_waits_for_another_epoch(dataset):
    source = Batches(dataset, size=24, shift_px=0, flip=False, seed=0)
    assert [len(labels) for _, labels in source.epoch(0)] == [24, 24]
    small = Batches(dataset, size=100, shift_px=0, flip=False, seed=0)
    assert [len(labels) for _, labels in small.epoch(0)] == [64]


def test_normalised_equals_the_shared_normalisation():
    pixels = np.random.RandomState(1).randint(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    ours = normalised(torch.from_numpy(pixels), mean, std)
    np.testing.assert_allclose(ours.numpy(), normalise(pixels, mean, std), atol=1e-5)
