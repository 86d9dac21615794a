"""Batches for training and evaluation: pixels stay bytes until the step that needs them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.data import Dataset


class Batches:
    """Shuffled batches of a training split: shifted, perhaps cropped, mirrored or partly erased.

    Order and augmentation depend on the seed and the epoch alone, so that a resumed training sees
    what an uninterrupted one would have seen.
    """

    def __init__(self, dataset: Dataset, *, size: int, shift_px: int, flip: bool, seed: int,
                 cutout_px: int = 0, crop_share: float = 1.0):
        self.size, self.shift_px, self.flip, self.seed = size, shift_px, flip, seed
        self.cutout_px, self.crop_share = cutout_px, crop_share
        self.mean, self.std = dataset.mean, dataset.std
        # One border pixel is enough: a shift reads it as often as it needs. Photos repeat their
        # edge, drawings stand on an empty ground.
        border = ((0, 0),) * (dataset.images.ndim - 3) + ((1, 1), (1, 1), (0, 0))
        mode = "edge" if dataset.photos else "constant"
        self.images = torch.from_numpy(np.pad(dataset.images, border, mode=mode))
        self.labels = torch.from_numpy(dataset.labels.copy())

    @property
    def steps(self) -> int:
        """Batches per epoch; what does not fill a batch waits for another epoch."""
        return max(len(self.labels) // self.size, 1)

    def epoch(self, epoch: int, shard: tuple[int, int] = (0, 1)
              ) -> Iterator[tuple[Tensor, Tensor]]:
        """All batches of an epoch: float [B, C, H, W] in channels-last order, int64 [B].

        Event frames are [B, T, C, H, W], every frame of a sample augmented alike.
        `shard` (i, n) gives every n-th image of every batch from the i-th on, the same pixels as in
        the whole batch.
        """
        first, every = shard
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=random)
        for step in range(self.steps):
            chosen = order[step * self.size : (step + 1) * self.size]
            places = self._places(len(chosen), random)
            mine, *places = (part[first::every] for part in (chosen, *places))
            yield normalised(self._gathered(mine, *places), self.mean, self.std), self.labels[mine]

    def _places(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Where every pixel of every image comes from: rows [B, H], columns [B, W].

        Also the centres [B, 2] of the erased squares. A shard draws for the whole batch.
        """
        height, width = self.images.shape[-3] - 2, self.images.shape[-2] - 2
        far = self.shift_px
        down, right = torch.randint(-far, far + 1, (2, count, 1), generator=random)
        rows, columns = torch.arange(height)[None], torch.arange(width)[None]
        if self.crop_share < 1:
            rows, columns = self._crops(count, random)
        rows = (rows + down + 1).clamp(0, height + 1)
        columns = (columns + right + 1).clamp(0, width + 1)
        if self.flip:
            mirrored = torch.rand(count, 1, generator=random) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        centres = torch.zeros(count, 2)
        if self.cutout_px:
            centres = torch.rand(count, 2, generator=random) * torch.tensor([height, width])
        return rows, columns, centres

    def _crops(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows [B, H] and columns [B, W] that stretch a part of each image over all of it.

        The part has between `crop_share` and all of the area and sides of 3:4 to 4:3, as in
        Inception's random crops; pixels are repeated, not interpolated.
        """
        area = self.crop_share + (1 - self.crop_share) * torch.rand(count, 1, generator=random)
        aspect = (4 / 3) ** (2 * torch.rand(count, 1, generator=random) - 1)
        sides = []
        for size, stretch in ((self.images.shape[-3] - 2, aspect),
                              (self.images.shape[-2] - 2, 1 / aspect)):
            part = size * (area * stretch).sqrt().clamp(max=1)
            begin = (size - part) * torch.rand(count, 1, generator=random)
            sides.append((begin + (torch.arange(size) + 0.5) * part / size).long())
        return sides[0], sides[1]

    def _gathered(self, chosen: Tensor, rows: Tensor, columns: Tensor, centres: Tensor) -> Tensor:
        """uint8 [B, (T,) H, W, C] of the chosen images, augmented by one gather."""
        frames = [torch.arange(n)[:, None, None] for n in self.images.shape[1:-3]]
        each = (slice(None),) + (None,) * len(frames)  # [B] to [B, 1] where there are frames
        pixels = self.images[(chosen[each][..., None, None], *frames, rows[each][..., None],
                              columns[each][..., None, :])]
        if self.cutout_px:
            above, left = (centres - self.cutout_px / 2).round().unbind(1)
            inside = (self._within(rows.shape[1], above)[each][..., None]
                      & self._within(columns.shape[1], left)[each][..., None, :])
            mean = torch.tensor(self.mean).mul(255).round().to(torch.uint8)
            pixels = torch.where(inside[..., None], mean, pixels)
        return pixels

    def _within(self, size: int, begin: Tensor) -> Tensor:
        """Which of `size` rows or columns lie in the erased square that starts at begin [B]."""
        place = torch.arange(size) - begin[:, None]
        return (place >= 0) & (place < self.cutout_px)


def evaluate(model: nn.Module, dataset: Dataset, batch_size: int = 256) -> float:
    """The share of images whose largest logit is the right class, as a float model sees them."""
    device = next(model.parameters()).device
    correct = 0
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(dataset), batch_size):
            pixels = torch.from_numpy(dataset.images[first : first + batch_size].copy()).to(device)
            predicted = model(normalised(pixels, dataset.mean, dataset.std)).argmax(1).cpu()
            labels = torch.from_numpy(dataset.labels[first : first + batch_size])
            correct += int((predicted == labels).sum())
    return correct / len(dataset)


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 [B, (T,) H, W, C] to float [B, (T,) C, H, W], channels last, no byte moved."""
    scale = 1 / (255 * torch.tensor(std, device=pixels.device))
    offset = 255 * torch.tensor(mean, device=pixels.device)
    return ((pixels.float() - offset) * scale).movedim(-1, -3)
