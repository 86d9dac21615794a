import numpy as np
import pytest

from edgesvit.data.dataset import checked, normalise, spread, statistics, stratified
from edgesvit.errors import UsageError


def test_mean_is_a_whole_pixel_so_that_padding_is_exact():
    images = np.random.RandomState(0).randint(0, 200, (50, 6, 6, 3)).astype(np.uint8)
    mean, std = statistics(images)
    pixels = 255 * np.array(mean)
    assert np.allclose(pixels, np.rint(pixels), atol=1e-9)
    assert np.abs(pixels - images.reshape(-1, 3).mean(0)).max() <= 0.5
    assert np.allclose(255 * np.array(std), images.reshape(-1, 3).std(0))
    padding = np.rint(pixels).astype(np.uint8).reshape(1, 1, 1, 3)
    assert np.all(normalise(padding, mean, std) == 0)


def test_a_constant_channel_does_not_divide_by_zero():
    mean, std = statistics(np.full((4, 2, 2, 1), 7, np.uint8))
    assert std[0] > 0 and np.isfinite(normalise(np.zeros((1, 2, 2, 1), np.uint8), mean, std)).all()


def test_normalise_moves_channels_first():
    images = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    x = normalise(images, (0.2, 0.4), (0.5, 0.25))
    assert x.shape == (2, 2, 3, 4) and x.dtype == np.float32
    assert x[1, 1, 2, 3] == pytest.approx((images[1, 2, 3, 1] / 255 - 0.4) / 0.25, abs=1e-6)


def test_stratified_split_is_whole_disjoint_fair_and_fixed():
    labels = np.repeat(np.arange(5), [11, 7, 30, 23, 4])
    train, test = stratified(labels, 15, seed=0)
    assert len(test) == 15
    assert sorted([*train, *test]) == list(range(75))
    assert np.abs(np.bincount(labels[test]) - np.bincount(labels) * 15 / 75).max() < 1
    again = stratified(labels, 15, seed=0)
    assert np.array_equal(again[1], test)
    assert not np.array_equal(stratified(labels, 15, seed=1)[1], test)


def test_spread_covers_the_ends_once():
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert (spread(1000, 3) == [0, 499, 999]).all()


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 4, 4), np.float32), np.zeros(2), "float32"),
        (np.zeros((2, 4), np.uint8), np.zeros(2), r"\[2, 4\]"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(3), "2 images and 3 labels"),
        (np.zeros((0, 4, 4), np.uint8), np.zeros(0), "0 images and 0 labels"),
    ],
)
def test_wrong_arrays_are_refused(images, labels, words):
    with pytest.raises(UsageError, match=words):
        checked(images, labels, "here")


def test_grey_images_gain_a_channel():
    images, labels = checked(np.zeros((2, 4, 5), np.uint8), np.array([[1], [0]], np.uint8), "here")
    assert images.shape == (2, 4, 5, 1) and labels.dtype == np.int64 and labels.tolist() == [1, 0]
