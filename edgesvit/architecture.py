"""The shape of a new model, from the few numbers a person chooses to a whole configuration."""

from typing import Literal

import msgspec

from edgesvit.data import Dataset
from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig, qkformer, sdt_v1, sdt_v2, sdt_v3, spikformer


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a new model; `pool` and `stem` follow from the image and `dim` when left out.

    Every family has `dim`, the last stage's width, `depth`, `heads` and `mlp_ratio`; OPTIONS says
    which has what else. A QKFormer takes the authors' CIFAR form, an SDT-V2 or V3 as many strides
    of 2 as the image needs.
    """

    family: Literal["spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "qkformer"] = "spikformer"
    dim: int = 64
    depth: int = 2
    heads: int = 4
    time_steps: int = 4
    levels: int = 4
    mlp_ratio: int = 4
    stem: tuple[int, ...] | None = None
    pool: str | None = None
    attention_scale: float = 0.125


BUILDERS = {"spikformer": spikformer, "sdt_v1": sdt_v1, "sdt_v2": sdt_v2, "sdt_v3": sdt_v3,
            "qkformer": qkformer}
OPTIONS = {
    "spikformer": {"time_steps", "stem", "pool", "attention_scale"},
    "sdt_v1": {"time_steps", "stem", "pool"},
    "sdt_v2": {"time_steps"},
    "sdt_v3": {"levels"},
    "qkformer": {"time_steps"},
}
# What says that a model reads event frames.
EVENT_FORMS = {"spikformer": {"form": "dvs"}, "sdt_v1": {"events": True}}


def new_config(architecture: Architecture, dataset: Dataset) -> AnyConfig:
    """The configuration of a new model for the images and classes of `dataset`.

    UsageError when the shape is impossible or the family has no such option.
    """
    shape = msgspec.structs.asdict(architecture)
    family = shape.pop("family")
    for name in sorted(set().union(*OPTIONS.values()) - OPTIONS[family]):
        if shape.pop(name) != getattr(Architecture(), name):
            raise UsageError(f"the family {family} has no --{name.replace('_', '-')}",
                             "leave it away")
    if "pool" in shape:
        shape["pool"] = shape["pool"] or default_pool(dataset.image_size)
    if family == "qkformer":
        shape["form"] = "cifar"
    if dataset.frames:
        shape |= _event_form(family, architecture, dataset)
    return BUILDERS[family](dataset.image_size, dataset.channels, len(dataset.classes), **shape)


def _event_form(family: str, architecture: Architecture, dataset: Dataset) -> dict:
    """What a model of event frames has in place of the options."""
    if family not in EVENT_FORMS:
        raise UsageError(f"{dataset.name} has event frames, which {family} cannot be trained on",
                         "choose --family spikformer or sdt_v1")
    if architecture.time_steps not in (Architecture().time_steps, dataset.frames):
        raise UsageError(f"{dataset.name} has {dataset.frames} frames, not "
                         f"{architecture.time_steps}", f"choose --time-steps {dataset.frames}")
    return EVENT_FORMS[family] | {"time_steps": dataset.frames}


def default_pool(image_size: tuple[int, int]) -> str:
    """Pool behind the last stages until the token grid is at most 8 wide, at least once."""
    pools, side = 1, (max(image_size) + 1) // 2
    while side > 8 and pools < 4:
        pools, side = pools + 1, (side + 1) // 2
    return "0" * (4 - pools) + "1" * pools
