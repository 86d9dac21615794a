"""The shape of a new model, from the few numbers a person chooses to a whole configuration."""

from typing import Literal

import msgspec

from edgesvit.data import Dataset
from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig, qkformer, spikformer


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a new model; `pool` and `stem` follow from the image and `dim` when left out.

    A QKFormer has neither, nor another attention scale: it is the authors' CIFAR form.
    """

    family: Literal["spikformer", "qkformer"] = "spikformer"
    dim: int = 64
    depth: int = 2
    heads: int = 4
    time_steps: int = 4
    mlp_ratio: int = 4
    stem: tuple[int, ...] | None = None
    pool: str | None = None
    attention_scale: float = 0.125


def new_config(architecture: Architecture, dataset: Dataset) -> AnyConfig:
    """The configuration of a new model for the images and classes of `dataset`.

    UsageError when the shape is impossible or the family has no such option.
    """
    shape = msgspec.structs.asdict(architecture)
    task = (dataset.image_size, dataset.channels, len(dataset.classes))
    if shape.pop("family") == "spikformer":
        shape["pool"] = shape["pool"] or default_pool(dataset.image_size)
        return spikformer(*task, **shape)
    extra = [name for name in ("stem", "pool", "attention_scale")
             if shape.pop(name) != getattr(Architecture(), name)]
    if extra:
        raise UsageError(f"a QKFormer has no --{extra[0].replace('_', '-')}", "leave it away")
    return qkformer(*task, form="cifar", **shape)


def default_pool(image_size: tuple[int, int]) -> str:
    """Pool behind the last stages until the token grid is at most 8 wide, at least once."""
    pools, side = 1, (max(image_size) + 1) // 2
    while side > 8 and pools < 4:
        pools, side = pools + 1, (side + 1) // 2
    return "0" * (4 - pools) + "1" * pools
