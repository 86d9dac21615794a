"""What the authors' code instantiates for its published models: counts and key lists."""

import json
from pathlib import Path

import torch
from torch import nn


def parameter_counts(shared: Path, arch: str) -> dict[str, int]:
    """Parameters by the official variant's name."""
    rows = json.loads((shared / "fixtures" / "param_counts.json").read_text())
    return {row["variant"]: row["params"] for row in rows if row["arch"] == arch}


def shapes_of(shared: Path, arch: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the one ImageNet model whose key list is at hand."""
    (path,) = (shared / "fixtures" / arch).glob("imagenet_keys.*.json")
    keys = json.loads(path.read_text())["keys"]
    return {name: tuple(entry["shape"]) for name, entry in keys.items()}


def hollow(family, config) -> nn.Module:
    """The model without memory for its tensors."""
    with torch.device("meta"):
        return family.build(config)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
