"""The public fixtures: what the authors' code computed, and a family's model with its weights."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.models.lif import Lif


class Official(NamedTuple):
    model: nn.Module
    images: Tensor
    io: Any  # logits, logits_single
    spikes: Any  # some neurons' spikes by module path, in the official layout
    counts: dict[str, list[int]]  # of every neuron, spikes per time step


def load(folder: Path, family: ModuleType) -> Official:
    """The model that `family` recognises in a fixture's tensors, dead ones left out."""
    from safetensors.torch import load_file

    meta = json.loads((folder / "meta.json").read_text())
    tensors = load_file(folder / "state_dict.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    model = family.build(family.recognise(shapes, meta["config"])).eval()
    model.load_state_dict({name: tensor for name, tensor in tensors.items()
                           if not name.endswith(family.DEAD_KEYS)})
    io = np.load(folder / "io.npz")
    return Official(model, torch.from_numpy(io["x"]), io, np.load(folder / "spikes.npz"),
                    meta["spike_count_per_first_axis"])


def spikes_of(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and the output of every neuron by module name."""
    seen = {}
    hooks = [m.register_forward_hook(lambda m, i, out, name=n: seen.__setitem__(name, out))
             for n, m in model.named_modules() if isinstance(m, Lif)]
    with torch.no_grad():
        logits = model(images)
    for hook in hooks:
        hook.remove()
    return logits, seen


def logit_errors(official: Official) -> tuple[float, float]:
    """The largest differences of the logits: all images in one batch, and one by one."""
    with torch.no_grad():
        batch = official.model(official.images).numpy()
        single = np.concatenate([official.model(x[None]).numpy() for x in official.images])
    return (float(np.abs(batch - official.io["logits"]).max()),
            float(np.abs(single - official.io["logits_single"]).max()))
