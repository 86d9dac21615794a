"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels, no download."""

import numpy as np

from edgesvit.data.dataset import Dataset, statistics, stratified

TEST_COUNT = 360
SPLIT_SEED = 0


def load(split: str) -> Dataset:
    """1,437 training or 360 test images, split by class with a fixed seed.

    The source has pixels 0..16; they become round(p * 255 / 16), so that 16 is a full 255.
    """
    from sklearn.datasets import load_digits  # half a second, so only where it is needed

    source = load_digits()
    images = np.rint(source.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int64)
    train, test = stratified(labels, TEST_COUNT, SPLIT_SEED)
    chosen = train if split == "train" else test
    mean, std = statistics(images[train])
    classes = tuple(str(digit) for digit in range(10))
    return Dataset(images[chosen], labels[chosen], classes, mean, std, "digits")
