import dataclasses

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


def whole_epoch(dataset, epoch=0, *, shift_px=0, flip=False, shard=(0, 1), **more):
    source = Batches(dataset, size=64, shift_px=shift_px, flip=flip, seed=1, **more)
    (batch,) = source.epoch(epoch, shard)
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
    images = whole_epoch(dataclasses.replace(dataset, photos=True), shift_px=2)[0]
    black = (0 - dataset.mean[0]) / dataset.std[0]
    assert images.min() > black + 0.01


def test_crops_stretch_a_part_over_the_whole(dataset):
    ramp = np.arange(16, dtype=np.uint8) * 16
    images = np.broadcast_to(ramp[:, None] // 2 + ramp // 2, (64, 16, 16))[..., None]
    source = dataclasses.replace(dataset, images=images.copy())
    spans = []
    for image in whole_epoch(source, crop_share=0.25)[0][:, 0]:
        down, right = image[:, 0], image[0]
        assert (down.diff() >= 0).all() and (right.diff() >= 0).all()
        spans.append(float((down[-1] - down[0]) * (right[-1] - right[0])))
    whole = float(np.ptp(normalise(images, (0.4,), (0.3,))[0, 0, :, 0])) ** 2
    assert 0.2 * whole < min(spans) < 0.4 * whole and 0.75 * whole < max(spans) <= whole * 1.001
    assert torch.equal(*(whole_epoch(source, 5, crop_share=0.5)[0] for _ in range(2)))


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


def test_cutout_sets_a_square_of_each_image_to_the_mean(dataset):
    dataset = dataclasses.replace(dataset, mean=(128 / 255,))  # no pixel is 128
    images, labels = whole_epoch(dataset, cutout_px=3)
    plain, same = whole_epoch(dataset)
    assert torch.equal(labels, same)
    erased = images.abs() < 1e-6  # [B, 1, H, W]
    assert torch.equal(images[~erased], plain[~erased])
    heights, widths = erased.any(3).sum(2).flatten(), erased.any(2).sum(2).flatten()
    assert torch.equal(erased.sum((1, 2, 3)), heights * widths)  # whole rectangles
    assert heights.max() == widths.max() == 3  # cut where the square leaves the image
    assert (heights * widths).float().mean() > 0.6 * 9
    assert erased.any(0).all()  # every pixel is erased in some image
    assert torch.equal(images, whole_epoch(dataset, cutout_px=3)[0])
    assert not torch.equal(images, whole_epoch(dataset, epoch=1, cutout_px=3)[0])


def test_shards_are_the_parts_of_the_whole_batch(dataset):
    options = {"epoch": 2, "shift_px": 2, "flip": True, "cutout_px": 3}
    images, labels = whole_epoch(dataset, **options)
    for first in range(3):
        part, ours = whole_epoch(dataset, **options, shard=(first, 3))
        assert torch.equal(part, images[first::3]) and torch.equal(ours, labels[first::3])


def test_frames_of_events_are_augmented_alike(dataset):
    """A sample of equal frames stays one, and each frame is what a still image becomes."""
    events = dataclasses.replace(dataset, images=np.stack([dataset.images] * 3, axis=1))
    options = {"shift_px": 2, "flip": True, "cutout_px": 3}
    frames, _ = whole_epoch(events, **options)
    still, _ = whole_epoch(dataset, **options)
    assert frames.shape == (64, 3, 1, 8, 8)
    assert all(torch.equal(frames[:, t], still) for t in range(3))
