"""SDT-V2, Meta-SpikeFormer (Yao et al., ICLR 2024): a membrane stream through four stages.

Notation: T time steps, B batch, C channels, N = H W tokens, h heads, d head width. The stream is
real-valued; every branch begins with a neuron, ends in a BN and is added before the next neuron.
Module and parameter names are those of the authors' code, so that its checkpoints load. Its
drop-path, which no forward applies, is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgesvit.errors import UsageError
from edgesvit.models.config import SdtV2Config
from edgesvit.models.config.sdt_v2 import OFFICIAL_STRIDES
from edgesvit.models.layers import Depthwise, over_frames
from edgesvit.models.lif import Lif
from edgesvit.models.recognise import Shapes, depth_of, image_size_of, shape_of
from edgesvit.models.rep_conv import RepConv
from edgesvit.models.stage_shapes import dims_of
from edgesvit.models.tokens import TokenChoice
from edgesvit.models.variants import Variant

ATTENTION_SCALE = 0.125  # whatever the head width is
DEAD_KEYS: tuple[str, ...] = ()  # every tensor of the official checkpoints takes part
# A current of standard deviation 1 makes a neuron fire in 4 % of its steps, and then no sum of the
# attention reaches its threshold: behind silence, batch norms blow gradients up ten-thousandfold.
CURRENT_GAIN = 2.0
# The BN at the end of a branch starts small, and the network as the chain of its down-sampling
# layers: within a few epochs on little data it learns nothing through branches of noise.
BRANCH_GAIN = 0.2
BRANCH_ENDS = (".bn2", ".proj_conv.1", ".fc2_bn")

Neuron = Callable[[], nn.Module]


class SdtV2(nn.Module):
    """Normalised images [B, C, H, W] to logits [B, classes], the mean over T steps.

    With `kd` there are two classifiers: in training the pair of their logits, else their mean.
    """

    def __init__(self, config: SdtV2Config):
        super().__init__()
        self.config = config
        dims = config.dims
        first, e0, e1, e2, e3 = dims.streams
        s0, s1, s2, s3, s4 = config.strides

        def neuron() -> nn.Module:
            return Lif(config.threshold)

        third, fourth = config.blocks

        def conv_block(dim: int, index: int) -> nn.ModuleList:
            return nn.ModuleList([ConvBlock(dim, dims.sep[index], dims.conv[index], neuron)])

        self.downsample1_1 = DownSample(config.in_channels, first, kernel=7, stride=s0)
        self.ConvBlock1_1 = conv_block(first, 0)
        self.downsample1_2 = DownSample(first, e0, neuron, stride=s1)
        self.ConvBlock1_2 = conv_block(e0, 1)
        self.downsample2 = DownSample(e0, e1, neuron, stride=s2)
        self.ConvBlock2_1 = conv_block(e1, 2)
        self.ConvBlock2_2 = conv_block(e1, 3)
        self.downsample3 = DownSample(e1, e2, neuron, stride=s3)
        self.block3 = nn.ModuleList(Block(e2, config, i) for i in range(third))
        self.downsample4 = DownSample(e2, e3, neuron, stride=s4)
        self.block4 = nn.ModuleList(Block(e3, config, third + i) for i in range(fourth))
        self.lif = neuron()
        self.head = nn.Linear(e3, config.classes)
        if config.kd:
            self.head_kd = nn.Linear(e3, config.classes)
        self.apply(initialise)
        initialise_bns(self, CURRENT_GAIN, BRANCH_ENDS, edge=config.threshold)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        # The image is the same at every step: the first layer, which has no neuron, runs once.
        membrane = self.downsample1_1(images[None])  # [1, B, e0/2, H/2, W/2]
        x = membrane.expand(self.config.time_steps, *membrane.shape[1:])
        for layer in (
            *self.ConvBlock1_1, self.downsample1_2, *self.ConvBlock1_2, self.downsample2,
            *self.ConvBlock2_1, *self.ConvBlock2_2, self.downsample3, *self.block3,
            self.downsample4, *self.block4,
        ):
            x = layer(x)
        spikes = self.lif(x.flatten(3).mean(3))  # [T, B, C, H, W] to [T, B, C]
        logits = self.head(spikes).mean(0)
        return merge_heads(self, logits, spikes)


class DownSample(nn.Module):
    """Neuron, convolution, BN: [T, B, C, H, W] to [T, B, C', H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, neuron: Neuron | None = None, *,
                 kernel: int = 3, stride: int = 2):
        super().__init__()
        self.encode_conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.encode_bn = nn.BatchNorm2d(outputs)
        self.encode_lif = neuron() if neuron else nn.Identity()  # the first layer has none

    def forward(self, x: Tensor) -> Tensor:
        return over_frames(self.encode_lif(x), self.encode_conv, self.encode_bn)


class ConvBlock(nn.Module):
    """A separable convolution and a wide one, each added to the stream [T, B, C, H, W]."""

    def __init__(self, dim: int, sep: int, hidden: int, neuron: Neuron):
        super().__init__()
        self.Conv = SepConv(dim, sep, neuron)
        self.lif1 = neuron()
        self.conv1 = nn.Conv2d(dim, hidden, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.lif2 = neuron()
        self.conv2 = nn.Conv2d(hidden, dim, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.Conv(x)
        wide = over_frames(self.lif1(x), self.conv1, self.bn1)
        return x + over_frames(self.lif2(wide), self.conv2, self.bn2)


class SepConv(nn.Module):
    """Point-wise, depth-wise 7x7, point-wise; no neuron and no BN behind the depth-wise one."""

    def __init__(self, dim: int, hidden: int, neuron: Neuron):
        super().__init__()
        self.lif1 = neuron()
        self.pwconv1 = nn.Conv2d(dim, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.lif2 = neuron()
        self.dwconv = Depthwise(hidden, 7)
        self.pwconv2 = nn.Conv2d(hidden, dim, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        wide = over_frames(self.lif1(x), self.pwconv1, self.bn1)
        return over_frames(self.lif2(wide), self.dwconv, self.pwconv2, self.bn2)


class Block(nn.Module):
    """Attention, then MLP, each added to the stream [T, B, C, H, W]."""

    def __init__(self, dim: int, config: SdtV2Config, index: int):
        super().__init__()
        self.attn = Attention(dim, config, index)
        self.mlp = Mlp(dim, config.dims.hidden[index], lambda: Lif(config.threshold))
        self.tokens = TokenChoice(config, index, membranes=True)

    def forward(self, x: Tensor) -> Tensor:
        # The layers of the attention are 3x3 convolutions: tokens can only stop behind it.
        return self.tokens.over_map(self.add_mlp, x + self.attn(x))

    def add_mlp(self, x: Tensor) -> Tensor:
        """The MLP on those tokens that pass through it."""
        return x + self.mlp(x.flatten(3)).unflatten(3, x.shape[3:])  # tokens are [T, B, C, N]


class Attention(nn.Module):
    """Spike-driven self-attention: LIF(q (k^T v) / 8), then a projection; [T, B, C, H, W]."""

    def __init__(self, dim: int, config: SdtV2Config, index: int):
        super().__init__()
        dims, self.heads = config.dims, config.heads
        qk, v = self.heads * dims.qk[index], self.heads * dims.v[index]
        self.head_lif = Lif(config.threshold)
        self.q_conv = _rep_conv_bn(dim, dims.rep_q[index], qk)
        self.k_conv = _rep_conv_bn(dim, dims.rep_k[index], qk)
        self.v_conv = _rep_conv_bn(dim, dims.rep_v[index], v)
        self.q_lif = Lif(config.threshold)
        self.k_lif = Lif(config.threshold)
        self.v_lif = Lif(config.threshold)
        self.attn_lif = Lif(config.attention_threshold)
        self.proj_conv = _rep_conv_bn(v, dims.rep_proj[index], dim)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.head_lif(x)
        q = self.q_lif(over_frames(spikes, self.q_conv)).flatten(3)  # [T, B, C, N]
        k = self.k_lif(over_frames(spikes, self.k_conv)).flatten(3)
        v = self.v_lif(over_frames(spikes, self.v_conv)).flatten(3)
        sums = attend(q, k, v, self.heads)
        mixed = self.attn_lif(sums * ATTENTION_SCALE)
        return over_frames(mixed.unflatten(3, x.shape[3:]), self.proj_conv)  # N to H, W


class Mlp(nn.Module):
    """Two point-wise layers, a neuron before each; tokens [T, B, C, N] to the same."""

    def __init__(self, dim: int, hidden: int, neuron: Neuron):
        super().__init__()
        self.fc1_lif = neuron()
        self.fc1_conv = nn.Conv1d(dim, hidden, 1)
        self.fc1_bn = nn.BatchNorm1d(hidden)
        self.fc2_lif = neuron()
        self.fc2_conv = nn.Conv1d(hidden, dim, 1)
        self.fc2_bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = over_frames(self.fc1_lif(x), self.fc1_conv, self.fc1_bn)
        return over_frames(self.fc2_lif(x), self.fc2_conv, self.fc2_bn)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """q (k^T v) per head: q, k [..., h d, N], v [..., h e, N] to sums [..., h e, N].

    Without softmax the product is associative, and sums of spikes, or of levels over a D that is a
    power of two, are exact: either order gives the same bits, so take the cheaper one.
    """
    q, k, v = (part.unflatten(-2, (heads, -1)) for part in (q, k, v))  # [..., h, d, N]
    if q.shape[-1] <= q.shape[-2]:
        sums = v @ (k.transpose(-2, -1) @ q)  # the transpose of (q k^T) v
    else:
        sums = (v @ k.transpose(-2, -1)) @ q
    return sums.flatten(-3, -2)


def merge_heads(model: nn.Module, logits: Tensor, features: Tensor
                ) -> Tensor | tuple[Tensor, Tensor]:
    """With a second classifier on `features` [T, B, C]: both logits in training, else the mean."""
    if not model.config.kd:
        return logits
    distilled = model.head_kd(features).mean(0)
    return (logits, distilled) if model.training else (logits + distilled) / 2


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def initialise_bns(model: nn.Module, gain: float, branch_ends: tuple[str, ...], edge: float
                   ) -> None:
    """Every BN's weight: BRANCH_GAIN where the name ends as a branch does, else `gain`.

    The last stage's stream starts around `edge`, where the classifier's neuron begins to fire: it
    sees a mean over the tokens, and around 0 that is too small for a single spike.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.constant_(module.weight, BRANCH_GAIN if name.endswith(branch_ends) else gain)
    nn.init.constant_(model.downsample4.encode_bn.bias, edge)


def _rep_conv_bn(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(RepConv(inputs, hidden, outputs), nn.BatchNorm2d(outputs))


def build(config: SdtV2Config) -> SdtV2:
    """A freshly initialised model in channels-last memory order."""
    return SdtV2(config).to(memory_format=torch.channels_last)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> SdtV2Config | None:
    """The configuration behind a checkpoint's tensors, None if it is of another family.

    Heads (8), T (4), the image size (224) and the strides (2, 2, 2, 2, 1) leave no trace: they come
    from `given` as num_heads, T, img and, a name of ours, strides.
    """
    if "block3.0.attn.q_conv.0.body.0.weight" not in shapes or not depth_of(shapes, "block4"):
        return None
    return SdtV2Config(
        image_size=image_size_of(given, 224),
        in_channels=shape_of(shapes, "downsample1_1.encode_conv.weight", 4)[1],
        classes=shape_of(shapes, "head.weight", 2)[0],
        time_steps=option(given, "T", 4), kd="head_kd.weight" in shapes,
        **stages_of(shapes, given, "rep"),
    )


def stages_of(shapes: Shapes, given: Mapping[str, Any], inside: str) -> dict[str, Any]:
    """What the configurations of SDT-V2 and V3 share: all widths, `blocks`, `heads`, `strides`."""
    blocks = depth_of(shapes, "block3"), depth_of(shapes, "block4")
    heads = option(given, "num_heads", 8)
    dims = dims_of(shapes, blocks, heads, inside)
    whole = dims.hidden[0] % dims.streams[3] == 0
    return {"blocks": blocks, "heads": heads, "pruned": dims, "embed_dims": dims.streams[1:],
            "mlp_ratio": dims.hidden[0] // dims.streams[3] if whole else 4,
            "strides": tuple(given.get("strides") or OFFICIAL_STRIDES)}


def option(given: Mapping[str, Any], name: str, default: int) -> int:
    """A given number; 0 is passed on, so that the configuration can refuse it."""
    return default if given.get(name) is None else given[name]


def stage_widths(shapes: Shapes, names: tuple[str, ...]) -> tuple[int, ...]:
    """The output channels of the down-sampling convolutions of these names."""
    return tuple(shape_of(shapes, f"{name}.encode_conv.weight", 4)[0] for name in names)


def mlp_ratio_of(shapes: Shapes) -> int:
    """Hidden channels over stream channels; UsageError where that is no whole number."""
    hidden, dim, _ = shape_of(shapes, "block3.0.mlp.fc1_conv.weight", 3)
    if dim < 1 or hidden % dim:
        raise UsageError(f"block3.0.mlp.fc1_conv has {hidden} channels over {dim}, no whole ratio",
                         "give a checkpoint of the authors' code; pruned ones are not read")
    return hidden // dim


def _imagenet(*embed_dims: int, kd: bool = False) -> SdtV2Config:
    return SdtV2Config(image_size=(224, 224), classes=1000, time_steps=4, embed_dims=embed_dims,
                       kd=kd)


_DATA = "ImageNet-1k, T=4, 224x224"
_CODE = "code of BICLab/Spike-Driven-Transformer-V2 35f245f"
_UNVERIFIED = f"{_CODE}; the paper's accuracy has not been verified here"

VARIANTS: tuple[Variant, ...] = (
    Variant("metaspikformer_8_256", _imagenet(64, 128, 256, 360), 15_112_208, None, _DATA,
            "the paper, not in the repository; its accuracy has not been verified here"),
    Variant("metaspikformer_8_384", _imagenet(96, 192, 384, 480), 31_333_864, 77.2, _DATA,
            "comparison table of a later paper (TDFormer)"),
    Variant("metaspikformer_8_512", _imagenet(128, 256, 512, 640), 55_350_248, None, _DATA,
            _UNVERIFIED),
    Variant("metaspikformer_8_512_kd", _imagenet(128, 256, 512, 640, kd=True), 55_991_248, 80.0,
            f"{_DATA}, distilled", "README of BICLab/Spike-Driven-Transformer-V2"),
    Variant("metaspikformer_8_768", _imagenet(192, 384, 768, 960), 123_741_160, None, _DATA,
            f"{_CODE}; no accuracy published"),
)
