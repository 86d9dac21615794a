"""Small models of every family whose neurons fire: random weights, statistics as after training."""

import functools

import msgspec
import numpy as np
import torch

from edgesvit.models import families
from edgesvit.models.config import SdtV2Config, SdtV3Config, qkformer, sdt_v1, spikformer

STAGES = {"image_size": (8, 8), "in_channels": 3, "classes": 6, "embed_dims": (8, 10, 12, 16),
          "heads": 2, "mlp_ratio": 2, "strides": (1, 1, 2, 1, 1), "blocks": (1, 1)}


def _spikformer(form: str):
    return spikformer((8, 8), 3, 6, dim=24, depth=2, heads=3, time_steps=3, pool="0001",
                      stem=(8, 12, 16, 24), attention_scale=0.5, form=form)


def _qkformer(form: str, dim: int, depth: int, heads: int):
    config = qkformer((8, 8), 3, 6, dim=dim, depth=depth, heads=heads, form=form, time_steps=3)
    return msgspec.structs.replace(config, attention_scale=0.5)


CONFIGS = {
    "spikformer": _spikformer("linear"),
    "spikformer-conv": _spikformer("conv"),
    "sdt_v1": sdt_v1((8, 8), 3, 6, dim=16, depth=2, heads=2, time_steps=3, pool="0001"),
    "sdt_v2": SdtV2Config(time_steps=3, attention_threshold=0.1, **STAGES),
    "sdt_v3": SdtV3Config(**STAGES),
    "qkformer": _qkformer("cifar", 64, 3, 8),  # the authors' CIFAR code always has 8 heads
    "qkformer-imagenet": _qkformer("imagenet", 32, 4, 2),
}


@functools.cache
def firing(name: str) -> dict[str, np.ndarray]:
    """The float64 state dict of CONFIGS[name] after a few training forwards."""
    torch.manual_seed(3)
    model = families.build(CONFIGS[name]).double()
    torch.nn.init.normal_(model.head.weight)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 1.0, 3.0)
            torch.nn.init.uniform_(module.bias, -0.5, 1.5)
            module.momentum = 1.0  # the statistics of the last batch
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(16, 3, 8, 8, dtype=torch.float64))
    return {key: value.numpy() for key, value in model.state_dict().items()}


def logits(config, weights) -> np.ndarray:
    """Of seven fixed images in double precision: [7, 6]."""
    model = families.build(config).double().eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    images = torch.randn(7, 3, 8, 8, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return model(images).numpy()
