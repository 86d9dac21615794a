"""Decoding of PNG and JPEG through Pillow, an optional dependency."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgesvit.errors import UsageError


def pillow():
    """Pillow's Image module; without Pillow, one line with the command that installs it."""
    try:
        from PIL import Image
    except ImportError:
        raise UsageError(
            "reading PNG or JPEG images needs Pillow, which is not installed",
            "pip install 'edgesvit[images]'",
        ) from None
    return Image


def decode_jpegs(blob: np.ndarray, offsets: np.ndarray, chosen: Iterable[int]) -> np.ndarray:
    """Concatenated JPEG files (uint8) to images uint8 [N, H, W, 3]; file i is offsets[i:i+2]."""
    image = pillow()
    data = memoryview(np.ascontiguousarray(blob))
    files = (data[int(offsets[i]) : int(offsets[i + 1])] for i in chosen)
    return np.stack([np.asarray(image.open(io.BytesIO(f)).convert("RGB")) for f in files])


def read_file(path: Path, size: int | None) -> np.ndarray:
    """One picture uint8 [H, W, 3]; `size` crops it to the centre square and resizes to size."""
    image = pillow()
    try:
        picture = image.open(path).convert("RGB")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read as an image: {error}", "remove or replace it"
        ) from None
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), image.Resampling.BICUBIC, box=box)
    return np.asarray(picture)
