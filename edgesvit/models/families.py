"""All model families in one table; each is one file with the same four exports.

`build(config)` makes a model, `recognise(shapes, given)` reads a configuration off a checkpoint's
tensors, `DEAD_KEYS` are suffixes of tensors that the official code never uses, `VARIANTS` are the
published models.
"""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import msgspec
import torch
from torch import nn

from edgesvit.errors import UsageError
from edgesvit.models import qkformer, sdt_v1, sdt_v2, sdt_v3, sdt_v3_large, spikformer
from edgesvit.models.recognise import Shapes
from edgesvit.models.variants import Variant

FAMILIES: dict[str, ModuleType] = {
    "spikformer": spikformer,
    "sdt_v1": sdt_v1,
    "sdt_v2": sdt_v2,
    "sdt_v3": sdt_v3,
    "sdt_v3_large": sdt_v3_large,
    "qkformer": qkformer,
}


def name_of(config: msgspec.Struct) -> str:
    """The family's name, a key of FAMILIES."""
    return next(name for name, family in FAMILIES.items()
                if isinstance(config, type(family.VARIANTS[0].config)))


def build(config: msgspec.Struct) -> nn.Module:
    """A freshly initialised model of any family."""
    return FAMILIES[name_of(config)].build(config)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> msgspec.Struct:
    """The configuration of a checkpoint of any family; UsageError when no family has its tensors.

    `given` holds, under the official names (num_heads, img, T, D ...), what leaves no trace in the
    tensors; a family has the published models' values for what is not given.
    """
    for family in FAMILIES.values():
        config = family.recognise(shapes, given)
        if config is not None:
            return config
    raise UsageError(f"no known family has these tensors, {_first_difference(shapes)}",
                     f"known are the official names of {', '.join(FAMILIES)}")


def _first_difference(shapes: Shapes) -> str:
    """What keeps the tensors from being the most similar published model's, by their names."""
    given = {_pattern(name) for name in shapes}
    closest, most, wanted = "", 0, []
    for variant in _one_of_each_form():
        with torch.device("meta"):
            names = list(build(variant.config).state_dict())
        if (common := len({_pattern(name) for name in names} & given)) > most:
            closest, most, wanted = variant.name, common, names
    if 2 * most < len(given):
        return f"the first is {next(iter(shapes), 'nothing')}"
    lacking = [name for name in wanted if _pattern(name) not in given] or [
        name for name in wanted if name not in shapes]
    return (f"{closest} is closest and needs {lacking[0]}" if lacking else
            f"{closest} has these names, but not in these shapes")


def _one_of_each_form() -> list[Variant]:
    """One published model for each set of names that a family's tensors can have."""
    rows = {(name, getattr(row.config, "form", ""), getattr(row.config, "choice", "")): row
            for name, family in FAMILIES.items() for row in reversed(family.VARIANTS)}
    return list(rows.values())


def _pattern(name: str) -> str:
    """A tensor's name with the numbers of blocks left out."""
    return re.sub(r"\.\d+\.", ".*.", name)
