"""SDT-V3 Model_Base, E-SpikeFormer (Yao et al., TPAMI 2025): integer neurons, no time loop.

Notation: B batch, C channels, N = H W tokens, h heads, D the highest level of a neuron. The stages
are those of SDT-V2 with a real-valued stream [B, C, H, W]; every branch begins with a neuron and
ends in a BN. Module and parameter names are those of the authors' code, so that its checkpoints
load. Its drop-path, which no forward applies, is left out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgesvit.errors import UsageError
from edgesvit.models.config import SdtV3Config
from edgesvit.models.integer_lif import IntegerLif
from edgesvit.models.layers import Depthwise
from edgesvit.models.recognise import Shapes, depth_of, image_size_of, shape_of
from edgesvit.models.sdt_v2 import (
    BRANCH_ENDS,
    attend,
    initialise,
    initialise_bns,
    option,
    stages_of,
)
from edgesvit.models.tokens import TokenChoice
from edgesvit.models.variants import Variant

DEAD_KEYS: tuple[str, ...] = ()  # every tensor of the official checkpoints takes part


class SdtV3(nn.Module):
    """Normalised images [B, C, H, W] to logits [B, classes]."""

    def __init__(self, config: SdtV3Config):
        super().__init__()
        self.config = config
        dims, levels = config.dims, config.levels
        first, e0, e1, e2, e3 = dims.streams
        s0, s1, s2, s3, s4 = config.strides
        third, fourth = config.blocks

        def conv_block(dim: int, index: int) -> nn.ModuleList:
            return nn.ModuleList([ConvBlock(dim, dims.sep[index], dims.conv[index], levels)])

        self.downsample1_1 = DownSample(config.in_channels, first, kernel=7, stride=s0)
        self.ConvBlock1_1 = conv_block(first, 0)
        self.downsample1_2 = DownSample(first, e0, levels, stride=s1)
        self.ConvBlock1_2 = conv_block(e0, 1)
        self.downsample2 = DownSample(e0, e1, levels, stride=s2)
        self.ConvBlock2_1 = conv_block(e1, 2)
        self.ConvBlock2_2 = conv_block(e1, 3)
        self.downsample3 = DownSample(e1, e2, levels, stride=s3)
        self.block3 = nn.ModuleList(Block(e2, config, i) for i in range(third))
        self.downsample4 = DownSample(e2, e3, levels, stride=s4)
        self.block4 = nn.ModuleList(Block(e3, config, third + i) for i in range(fourth))
        self.spike = IntegerLif(levels, "even", divided=False)  # the classifier reads 0..D
        self.head = nn.Linear(e3, config.classes)
        self.apply(initialise)
        initialise_bns(self, 1.0, (*BRANCH_ENDS, ".pwconv2.1"), edge=0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in (
            self.downsample1_1, *self.ConvBlock1_1, self.downsample1_2, *self.ConvBlock1_2,
            self.downsample2, *self.ConvBlock2_1, *self.ConvBlock2_2, self.downsample3,
            *self.block3, self.downsample4, *self.block4,
        ):
            x = layer(x)
        return self.head(self.spike(x.flatten(2).mean(2)))  # [B, C, H, W] to [B, C]


class DownSample(nn.Module):
    """Neuron, convolution, BN: [B, C, H, W] to [B, C', H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, levels: int | None = None, *,
                 kernel: int = 3, stride: int = 2):
        super().__init__()
        self.encode_conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.encode_bn = nn.BatchNorm2d(outputs)
        # The first layer reads the image and has no neuron.
        self.encode_spike = IntegerLif(levels, "even") if levels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.encode_bn(self.encode_conv(self.encode_spike(x)))


class ConvBlock(nn.Module):
    """A separable convolution 7x7 and a wide one 3x3, each added to the stream [B, C, H, W]."""

    def __init__(self, dim: int, sep: int, hidden: int, levels: int):
        super().__init__()
        self.Conv = SepConv(dim, sep, 7, levels)
        self.spike1 = IntegerLif(levels, "even")
        self.conv1 = nn.Conv2d(dim, hidden, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.spike2 = IntegerLif(levels, "even")
        self.conv2 = nn.Conv2d(hidden, dim, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.Conv(x)
        wide = self.bn1(self.conv1(self.spike1(x)))
        return x + self.bn2(self.conv2(self.spike2(wide)))


class SepConv(nn.Module):
    """Point-wise, depth-wise, point-wise back, a neuron before and a BN behind each."""

    def __init__(self, dim: int, hidden: int, kernel: int, levels: int):
        super().__init__()
        self.spike1 = IntegerLif(levels, "even")
        self.pwconv1 = _conv_bn(dim, hidden)
        self.spike2 = IntegerLif(levels, "even")
        self.dwconv = nn.Sequential(Depthwise(hidden, kernel), nn.BatchNorm2d(hidden))
        self.spike3 = IntegerLif(levels, "even")
        self.pwconv2 = _conv_bn(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pwconv1(self.spike1(x))
        x = self.dwconv(self.spike2(x))
        return self.pwconv2(self.spike3(x))


class Block(nn.Module):
    """Separable convolution 3x3, attention, MLP, each added to the stream [B, C, H, W]."""

    def __init__(self, dim: int, config: SdtV3Config, index: int):
        super().__init__()
        self.conv = SepConv(dim, config.dims.mix[index], 3, config.levels)
        self.attn = Attention(dim, config, index)
        self.mlp = Mlp(dim, config.dims.hidden[index], config.levels)
        self.tokens = TokenChoice(config, index, membranes=True)

    def forward(self, x: Tensor) -> Tensor:
        # The separable convolution needs all neighbours; the scores are those of its input.
        mixed = (x + self.conv(x))[None]
        return self.tokens.over_map(lambda few: self.branches(few[0])[None], mixed, x[None])[0]

    def branches(self, x: Tensor) -> Tensor:
        """Attention and MLP on those tokens that pass through them."""
        x = x + self.attn(x)
        return x + self.mlp(x.flatten(2)).unflatten(2, x.shape[2:])  # tokens are [B, C, N]


class Attention(nn.Module):
    """Neuron(q (k^T v) 2 / sqrt(C / h)), then a projection of 4 C to C; [B, C, H, W] to the same.

    Levels are multiplied as numbers: products of single spikes would not add up to the same.
    """

    def __init__(self, dim: int, config: SdtV3Config, index: int):
        super().__init__()
        self.heads, levels = config.heads, config.levels
        self.scale = config.attention_scales[index >= config.blocks[0]]
        qk, v = self.heads * config.dims.qk[index], self.heads * config.dims.v[index]
        self.head_spike = IntegerLif(levels, "even")
        self.q_conv = _conv_bn(dim, qk)
        self.q_spike = IntegerLif(levels, "even")
        self.k_conv = _conv_bn(dim, qk)
        self.k_spike = IntegerLif(levels, "even")
        self.v_conv = _conv_bn(dim, v)
        self.v_spike = IntegerLif(levels, "even")
        self.attn_spike = IntegerLif(levels, "even")
        self.proj_conv = _conv_bn(v, dim)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.head_spike(x)
        q = self.q_spike(self.q_conv(spikes)).flatten(2)  # [B, C, N]
        k = self.k_spike(self.k_conv(spikes)).flatten(2)
        v = self.v_spike(self.v_conv(spikes)).flatten(2)  # [B, 4 C, N]
        mixed = self.attn_spike(attend(q, k, v, self.heads) * self.scale)
        return self.proj_conv(mixed.unflatten(2, x.shape[2:]))  # N to H, W


class Mlp(nn.Module):
    """Two point-wise layers, a neuron before each; tokens [B, C, N] to the same."""

    def __init__(self, dim: int, hidden: int, levels: int):
        super().__init__()
        self.fc1_spike = IntegerLif(levels, "even")
        self.fc1_conv = nn.Conv1d(dim, hidden, 1)
        self.fc1_bn = nn.BatchNorm1d(hidden)
        self.fc2_spike = IntegerLif(levels, "even")
        self.fc2_conv = nn.Conv1d(hidden, dim, 1)
        self.fc2_bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1_bn(self.fc1_conv(self.fc1_spike(x)))
        return self.fc2_bn(self.fc2_conv(self.fc2_spike(x)))


def _conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def build(config: SdtV3Config) -> SdtV3:
    """A freshly initialised model in channels-last memory order."""
    return SdtV3(config).to(memory_format=torch.channels_last)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> SdtV3Config | None:
    """The configuration behind a checkpoint's tensors, None if it is of another family.

    Heads (8), D (4), the image size (224) and the strides (2, 2, 2, 2, 1) leave no trace: they come
    from `given` as num_heads, D, img and, a name of ours, strides. A pruned model's attention scale
    is that of the width it has: a run folder's card knows the one before.
    """
    if ("ConvBlock1_1.0.Conv.pwconv1.0.weight" not in shapes
            or not depth_of(shapes, "block4")):
        return None
    refuse_time_steps(given)
    return SdtV3Config(
        image_size=image_size_of(given, 224),
        in_channels=shape_of(shapes, "downsample1_1.encode_conv.weight", 4)[1],
        classes=shape_of(shapes, "head.weight", 2)[0],
        levels=option(given, "D", 4), **stages_of(shapes, given, "mix"),
    )


def refuse_time_steps(given: Mapping[str, Any]) -> None:
    """UsageError for T over 1: the neuron keeps nothing, so every step computes the same."""
    if option(given, "T", 1) != 1:
        raise UsageError(f"T is {given['T']}, but SDT-V3 has no time steps for an image",
                         "its levels are D: give D 4 for the papers' 1x4, D 8 for 1x8")


def _imagenet(*embed_dims: int) -> SdtV3Config:
    return SdtV3Config(image_size=(224, 224), classes=1000, embed_dims=embed_dims)


_DATA = "ImageNet-1k, 224x224 of 232"
_CODE = "code of BICLab/Spike-Driven-Transformer-V3 00fcd1f"
_ABSTRACT = "the paper's abstract, which does not state D"

VARIANTS: tuple[Variant, ...] = (
    Variant("Efficient_Spiking_Transformer_t", _imagenet(24, 48, 96, 128), 2_702_048, None, _DATA,
            f"{_CODE}; no accuracy published"),
    Variant("Efficient_Spiking_Transformer_s", _imagenet(32, 64, 128, 192), 5_105_608, None,
            _DATA, f"{_CODE}; the paper's accuracy has not been verified here"),
    Variant("Efficient_Spiking_Transformer_m", _imagenet(48, 96, 192, 240), 10_023_112, 78.5,
            _DATA, _ABSTRACT),
    Variant("Efficient_Spiking_Transformer_l", _imagenet(64, 128, 256, 360), 18_987_504, 79.8,
            _DATA, _ABSTRACT),
)
