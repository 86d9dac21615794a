"""Images or event frames with labels, and the normalisation that float and integer paths share."""

from dataclasses import dataclass

import numpy as np

from edgesvit.errors import UsageError

SAMPLE = 2000  # images from which mean and std are taken


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split: images uint8 [N, H, W, C], or event counts [N, T, H, W, C]; labels int64 [N].

    `mean` and `std` are per channel in units of the full pixel range (0..1), always those of the
    training split; counts stay counts. `photos` says whether a mirrored image is still an image of
    its class.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    photos: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """H, W in pixels."""
        return self.images.shape[-3], self.images.shape[-2]

    @property
    def channels(self) -> int:
        return self.images.shape[-1]

    @property
    def frames(self) -> int:
        """The time steps T that event data bring; 0 for still images."""
        return self.images.shape[1] if self.images.ndim == 5 else 0


def spread(count: int, wanted: int = SAMPLE) -> np.ndarray:
    """At most `wanted` indices spread evenly over `count` items, so that every class is seen."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel of uint8 images [N, H, W, C], in 0..1.

    Event counts [N, T, H, W, C] keep their zero and their unit: mean 0, std 1/255.
    The mean is rounded to a whole pixel value: a convolution pads with zeros, which is then the
    pixel 255 * mean, and the integer first convolution of a board pads with exactly that.
    """
    if images.ndim == 5:
        return (0.0,) * images.shape[-1], (1 / 255,) * images.shape[-1]
    pixels = images.reshape(-1, images.shape[-1]).astype(np.float64)
    mean = np.rint(pixels.mean(0)) / 255
    std = np.maximum(pixels.std(0), 1.0) / 255  # a constant channel must not divide by zero
    return tuple(mean.tolist()), tuple(std.tolist())


def normalise(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """uint8 [N, (T,) H, W, C] to float32 [N, (T,) C, H, W]: x = (p / 255 - mean) / std."""
    scaled = (images.astype(np.float32) - np.float32(255) * np.float32(mean)) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis(scaled / np.float32(std), -1, -3))


def stratified(labels: np.ndarray, test_count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices (train, test) with `test_count` tests, every class in its own share.

    The places left by rounding down go to the classes with the largest remainders.
    """
    random = np.random.RandomState(seed)  # the one generator whose stream never changes
    members = [random.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    shares = np.array([len(m) * test_count / len(labels) for m in members])
    counts = np.floor(shares).astype(int)
    order = np.argsort(counts - shares, kind="stable")
    counts[order[: test_count - counts.sum()]] += 1
    test = np.concatenate([m[:n] for m, n in zip(members, counts, strict=True)])
    train = np.concatenate([m[n:] for m, n in zip(members, counts, strict=True)])
    return np.sort(train), np.sort(test)


def checked(images: np.ndarray, labels: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The arrays as uint8 [N, (T,) H, W, C] and int64 [N]; grey images [N, H, W] gain a channel."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim not in (4, 5) or images.dtype != np.uint8:
        raise UsageError(
            f"{where}: images are {images.dtype} {list(images.shape)}, not uint8 [N, H, W, C]",
            "store pixels 0..255 as uint8, channels last; event frames as [N, T, H, W, C]",
        )
    if len(images) != labels.size or not labels.size:
        raise UsageError(
            f"{where}: {len(images)} images and {labels.size} labels", "give one label per image"
        )
    return images, labels.reshape(-1).astype(np.int64)
