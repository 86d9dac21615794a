"""Small random models of the forms that no small trained model ships for, as programs."""

from functools import cache

import numpy as np
import torch

from edgesvit.models import sdt_v1, sdt_v3_large
from edgesvit.models.config import SdtV3LargeConfig
from edgesvit.models.config import sdt_v1 as sdt_v1_config
from edgesvit.program.build import build
from edgesvit.program.ops import Program

EVENTS = sdt_v1_config((12, 12), 2, 5, dim=24, depth=2, heads=3, time_steps=3, pool="0010",
                       events=True)


def large(**form) -> SdtV3LargeConfig:
    """A Model_Large for 40x40 images: 3 x 3 tokens."""
    return SdtV3LargeConfig(image_size=(40, 40), classes=5, embed_dims=(8, 16, 24), depth=2,
                            heads=2, mlp_ratio=2, **form)


def lively(model: torch.nn.Module, images: torch.Tensor, shift: float) -> torch.nn.Module:
    """`model` with batch norms between whose neurons some fire; `shift` is added to currents."""
    for name, tensor in model.state_dict().items():
        if name.endswith("layer_scale1") or name.endswith("layer_scale2"):
            tensor.uniform_(-0.5, 0.5)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            low = 0.2 if name.endswith(("proj_bn", "fc2_bn")) else shift  # the stream is higher
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 1.0, 2.0)
            torch.nn.init.uniform_(module.bias, low, low + 0.6)
    with torch.inference_mode():
        model.train()(images)
    return model.eval()


def event_model() -> tuple[torch.nn.Module, np.ndarray]:
    """The event form of SDT-V1 in float64, and event frames uint8 [4, T, H, W, C]."""
    torch.manual_seed(0)
    frames = np.random.default_rng(0).poisson(0.7, (4, 3, 12, 12, 2)).astype(np.uint8)
    images = torch.from_numpy(frames.transpose(0, 1, 4, 2, 3)).double()
    return lively(sdt_v1.build(EVENTS).double(), images, -1.2), frames


def large_model(**form) -> tuple[torch.nn.Module, np.ndarray]:
    """An SDT-V3 Model_Large in float64, and images uint8 [4, H, W, C] of mean 0.4 and std 0.2."""
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3)).astype(np.uint8)
    images = torch.from_numpy(((pixels / 255 - 0.4) / 0.2).transpose(0, 3, 1, 2))
    return lively(sdt_v3_large.build(large(**form)).double(), images, 0.2), pixels


def normalisation(model: torch.nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the pixels, or counts, that one of these models takes."""
    if model.config is EVENTS:
        return (0.0, 0.0), (1 / 255, 1 / 255)
    return (0.4,) * 3, (0.2,) * 3


def program_of(model: torch.nn.Module) -> Program:
    """The program of one of these models."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return build(model.config, weights, *normalisation(model))


def scores(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """The logits of one of these models for each input by itself."""
    mean, std = normalisation(model)
    x = torch.from_numpy(np.moveaxis((images / 255 - mean) / std, -1, -3))
    with torch.inference_mode():
        return np.concatenate([model(image[None]).numpy() for image in x])


@cache
def both() -> tuple[tuple[Program, np.ndarray], ...]:
    """The two programs, and inputs of theirs."""
    pairs = (event_model(), large_model(sr_ratio=2))
    return tuple((program_of(model), images) for model, images in pairs)
