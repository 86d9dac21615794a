"""SDT-V3 Model_Large (Yao et al., TPAMI 2025): one stage of point-wise blocks, integer neurons.

Notation: T = 1 (the authors' axis is kept, the neuron has no memory), B batch, C channels,
N = H W tokens, h heads, D the highest level of a neuron. The stem is convolutional, behind it
tokens are [T, B, C, N]. Module and parameter names are those of the authors' code, so that its
checkpoints load; its drop-path, a training matter, is left out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgesvit.models.config import SdtV3LargeConfig
from edgesvit.models.integer_lif import IntegerLif
from edgesvit.models.layers import over_frames
from edgesvit.models.recognise import Shapes, depth_of, image_size_of, shape_of
from edgesvit.models.rep_conv import RepConv1d
from edgesvit.models.sdt_v2 import (
    ATTENTION_SCALE,
    DownSample,
    Mlp,
    Neuron,
    attend,
    initialise,
    merge_heads,
    mlp_ratio_of,
    option,
    stage_widths,
)
from edgesvit.models.sdt_v3 import refuse_time_steps
from edgesvit.models.variants import Variant

DEAD_KEYS: tuple[str, ...] = ()  # every tensor of the official checkpoints takes part


class SdtV3Large(nn.Module):
    """Normalised images [B, C, H, W] to logits [B, classes].

    With `kd` there are two classifiers: in training the pair of their logits, else their mean.
    """

    def __init__(self, config: SdtV3LargeConfig):
        super().__init__()
        self.config = config
        e0, e1, e2 = config.embed_dims
        ratio, neuron = config.mlp_ratio, _neuron(config.levels)
        self.downsample1_1 = DownSample(config.in_channels, e0 // 2, kernel=7)
        self.ConvBlock1_1 = nn.ModuleList([ConvBlock(e0 // 2, ratio, neuron)])
        self.downsample1_2 = DownSample(e0 // 2, e0, neuron)
        self.ConvBlock1_2 = nn.ModuleList([ConvBlock(e0, ratio, neuron)])
        self.downsample2 = DownSample(e0, e1, neuron)
        self.ConvBlock2_1 = nn.ModuleList([ConvBlock(e1, ratio, neuron)])
        self.ConvBlock2_2 = nn.ModuleList([ConvBlock(e1, ratio, neuron)])
        self.downsample3 = DownSample(e1, e2, neuron)
        self.block3 = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.lif = IntegerLif(config.levels, "up", divided=False)
        self.head = nn.Linear(e2, config.classes)
        if config.kd:
            self.head_kd = nn.Linear(e2, config.classes)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = images[None]  # [T, B, C, H, W]
        for layer in (
            self.downsample1_1, *self.ConvBlock1_1, self.downsample1_2, *self.ConvBlock1_2,
            self.downsample2, *self.ConvBlock2_1, *self.ConvBlock2_2, self.downsample3,
        ):
            x = layer(x)
        x = x.flatten(3)  # [T, B, C, N]
        for block in self.block3:
            x = block(x)
        features = x.mean(3)  # [T, B, C]
        # Only the second classifier reads the neuron; the first one reads the membrane itself.
        levels = self.lif(features)
        return merge_heads(self, self.head(features).mean(0), levels)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with bias, a neuron before each; added to the stream [T, B, C, H, W]."""

    def __init__(self, dim: int, mlp_ratio: int, neuron: Neuron):
        super().__init__()
        self.neuron1 = neuron()
        self.conv1 = nn.Sequential(_conv_bn(dim, dim * mlp_ratio))
        self.neuron2 = neuron()
        self.conv2 = nn.Sequential(_conv_bn(dim * mlp_ratio, dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = over_frames(self.neuron1(x), self.conv1)
        return x + over_frames(self.neuron2(wide), self.conv2)


class Block(nn.Module):
    """In "base" a point-wise branch, then attention and MLP, scaled; tokens [T, B, C, N].

    The authors' published "base" stops at names that it never defines; this is what their
    pre-training code, which defines them, computes.
    """

    def __init__(self, config: SdtV3LargeConfig):
        super().__init__()
        dim = config.embed_dims[2]
        self.has_branch = config.choice == "base"
        if self.has_branch:
            self.lif = _neuron(config.levels)()
            self.rep_conv = RepConv1d(dim, dim, dim)
        self.attn = Attention(dim, config)
        self.layer_scale1 = nn.Parameter(torch.full((dim,), config.layer_scale))
        self.mlp = Mlp(dim, dim * config.mlp_ratio, _neuron(config.levels))
        self.layer_scale2 = nn.Parameter(torch.full((dim,), config.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        if self.has_branch:
            x = x + over_frames(self.lif(x), self.rep_conv)
        x = x + self.layer_scale1[:, None] * self.attn(x)
        return x + self.layer_scale2[:, None] * self.mlp(x)


class Attention(nn.Module):
    """Neuron(q (k^T v) / 8), then a projection; tokens [T, B, C, N] to the same."""

    def __init__(self, dim: int, config: SdtV3LargeConfig):
        super().__init__()
        neuron, wide = _neuron(config.levels), dim * config.sr_ratio
        self.heads = config.heads
        self.head_lif = neuron()
        self.q_conv = _rep_conv_bn(dim, dim)
        self.k_conv = _rep_conv_bn(dim, dim)
        self.v_conv = _rep_conv_bn(dim, wide)
        self.q_lif = neuron()
        self.k_lif = neuron()
        self.v_lif = neuron()
        self.attn_lif = neuron()
        self.proj_conv = _rep_conv_bn(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.head_lif(x)
        q = self.q_lif(over_frames(spikes, self.q_conv))
        k = self.k_lif(over_frames(spikes, self.k_conv))
        v = self.v_lif(over_frames(spikes, self.v_conv))  # [T, B, sr C, N]
        mixed = self.attn_lif(attend(q, k, v, self.heads) * ATTENTION_SCALE)
        return over_frames(mixed, self.proj_conv)


def _neuron(levels: int) -> Neuron:
    return lambda: IntegerLif(levels, "up")


def _conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))


def _rep_conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(RepConv1d(inputs, int(inputs * 1.5), outputs), nn.BatchNorm1d(outputs))


def build(config: SdtV3LargeConfig) -> SdtV3Large:
    """A freshly initialised model in channels-last memory order."""
    return SdtV3Large(config).to(memory_format=torch.channels_last)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> SdtV3LargeConfig | None:
    """The configuration behind a checkpoint's tensors, None if it is of another family.

    Heads (8), D (4) and the image size (224) leave no trace: they come from `given`.
    """
    if "ConvBlock1_1.0.conv1.0.0.weight" not in shapes or not depth_of(shapes, "block3"):
        return None
    refuse_time_steps(given)
    dims = stage_widths(shapes, ("downsample1_2", "downsample2", "downsample3"))
    value_width = shape_of(shapes, "block3.0.attn.v_conv.0.conv2.0.weight", 3)[0]
    return SdtV3LargeConfig(
        image_size=image_size_of(given, 224),
        in_channels=shape_of(shapes, "downsample1_1.encode_conv.weight", 4)[1],
        classes=shape_of(shapes, "head.weight", 2)[0],
        embed_dims=dims, depth=depth_of(shapes, "block3"), heads=option(given, "num_heads", 8),
        mlp_ratio=mlp_ratio_of(shapes), levels=option(given, "D", 4),
        choice="base" if "block3.0.rep_conv.conv1.0.weight" in shapes else "large",
        sr_ratio=value_width // dims[2], kd="head_kd.weight" in shapes,
    )


def _imagenet(*embed_dims: int, choice: str, size: int = 224, kd: bool = True
              ) -> SdtV3LargeConfig:
    return SdtV3LargeConfig(image_size=(size, size), classes=1000, embed_dims=embed_dims,
                            choice=choice, levels=8, kd=kd)


_DATA = "ImageNet-1k, T x D = 1 x 8"
_CODE = "code of BICLab/Spike-Driven-Transformer-V3 00fcd1f; no accuracy published"
_TABLE = "the paper's abstract and a later paper's comparison table (TDFormer)"

VARIANTS: tuple[Variant, ...] = (
    Variant("spikformer12_512",
            _imagenet(128, 256, 512, choice="base"), 83_015_952, 84.0, f"{_DATA}, 224x224",
            f"{_TABLE}; the released file does not fit the published code (its issue #9)"),
    Variant("spikformer12_512_nokd",
            _imagenet(128, 256, 512, choice="base", kd=False), 82_502_952, None,
            f"{_DATA}, 224x224", _CODE),
    Variant("spikformer12_768",
            _imagenet(196, 384, 768, choice="large"), 171_740_714, 85.1, f"{_DATA}, 224x224",
            "a later paper's comparison table (TDFormer)"),
    Variant("spikformer12_768_384",
            _imagenet(196, 384, 768, choice="large", size=384), 171_740_714, 86.2,
            f"{_DATA}, 384x384", _TABLE),
    Variant("spikformer12_768_nokd",
            _imagenet(196, 384, 768, choice="large", kd=False), 170_971_714, None,
            f"{_DATA}, 224x224", _CODE),
)
