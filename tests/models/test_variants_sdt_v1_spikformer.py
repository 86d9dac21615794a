"""Every published model of the two families has the parameters and names of the official code."""

import json

import pytest
import torch

from edgesvit.models import sdt_v1, spikformer

FAMILIES = {"spikformer": spikformer, "sdt_v1": sdt_v1}
ROWS = [pytest.param(family, variant, id=variant.name)
        for family in FAMILIES.values() for variant in family.VARIANTS]


def live_shapes(family, config) -> dict[str, list[int]]:
    with torch.device("meta"):
        model = family.build(config)
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def parameters(family, config) -> int:
    """Live parameters, and those that the official code creates without use."""
    with torch.device("meta"):
        live = sum(p.numel() for p in family.build(config).parameters())
    dead = 4 * config.dim if family is spikformer else config.heads**2  # two LayerNorms | h x h
    return live + dead * config.depth


@pytest.mark.parametrize(("family", "variant"), ROWS)
def test_parameters(family, variant):
    assert parameters(family, variant.config) == variant.parameters


def test_parameters_are_those_of_the_official_code(shared):
    counted = {row["variant"]: row["params"]
               for row in json.loads((shared / "fixtures" / "param_counts.json").read_text())
               if row["arch"] in ("spikformer", "spikformer_cifar", "sdt_v1")}
    ours = {variant.name: variant.parameters
            for family in FAMILIES.values() for variant in family.VARIANTS}
    assert counted.items() <= ours.items()


KEYS = {
    "spikformer-8-512": "spikformer/imagenet_keys.spikformer-8-512.json",
    "spikformer-4-384-cifar10": "spikformer_cifar/imagenet_keys.spikformer-4-384-cifar10.json",
    "sdt-8-512": "sdt_v1/imagenet_keys.sdt-8-512.json",
}


@pytest.mark.parametrize(("family", "variant"),
                         [row for row in ROWS if row.values[1].name in KEYS])
def test_names_and_shapes(shared, family, variant):
    listed = json.loads((shared / "fixtures" / KEYS[variant.name]).read_text())["keys"]
    shapes = {name: tuple(row["shape"]) for name, row in listed.items()}
    live = {name: list(s) for name, s in shapes.items() if not name.endswith(family.DEAD_KEYS)}
    assert live_shapes(family, variant.config) == live
    assert len(live) < len(shapes)
    assert family.recognise(shapes, {}) == variant.config
    others = set(FAMILIES.values()) - {family}
    assert all(other.recognise(shapes, {}) is None for other in others)


@pytest.mark.parametrize(("family", "variant"), ROWS)
def test_rows_say_where_they_come_from(family, variant):
    assert variant.source and variant.data
    assert variant.accuracy is None or 70 < variant.accuracy < 100


def test_names_are_unique():
    names = [variant.name for family in FAMILIES.values() for variant in family.VARIANTS]
    assert len(set(names)) == len(names)
