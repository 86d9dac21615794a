"""The prunable channel groups of every family: a table, one file a family.

A family's file has `groups(config)` and `smaller(config, sizes)`.
"""

from collections.abc import Mapping
from types import ModuleType

from edgesvit.compress.groups import qkformer, sdt_v1, sdt_v2, sdt_v3, spikformer
from edgesvit.compress.groups.group import Group, Part
from edgesvit.errors import UsageError
from edgesvit.models.config import (
    AnyConfig,
    QKFormerConfig,
    SdtV1Config,
    SdtV2Config,
    SdtV3Config,
    SpikformerConfig,
)

FAMILIES: dict[type, ModuleType] = {
    SpikformerConfig: spikformer,
    SdtV1Config: sdt_v1,
    SdtV2Config: sdt_v2,
    SdtV3Config: sdt_v3,
    QKFormerConfig: qkformer,
}

__all__ = ["Group", "Part", "groups", "smaller"]


def groups(config: AnyConfig) -> tuple[Group, ...]:
    """All groups of a model, in the order of its layers, residual streams last."""
    return tuple(_family(config).groups(config))


def smaller(config: AnyConfig, sizes: Mapping[str, int]) -> AnyConfig:
    """The configuration in which the named groups have these sizes."""
    return _family(config).smaller(config, sizes) if sizes else config


def _family(config: AnyConfig) -> ModuleType:
    if type(config) not in FAMILIES:
        raise UsageError("SDT-V3 Model_Large has no channel groups", "the other families have")
    return FAMILIES[type(config)]
