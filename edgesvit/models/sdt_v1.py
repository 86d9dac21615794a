"""Spike-Driven Transformer V1 (Yao et al., NeurIPS 2023): attention by masks and additions only.

Notation: T time steps, B batch, C channels, H, W image or token grid, N = H W tokens, h heads,
d head width, D embedding. Module and parameter names are those of the authors' code, so that its
checkpoints load; what that code creates and never calls (`talking_heads`, `rpe_lif`, `attn_lif`)
is left out. The residual stream is a real-valued membrane: a branch starts with a neuron and ends
in a batch norm, so every convolution behind the first reads spikes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesvit.errors import UsageError
from edgesvit.models.config import SdtV1Config, sdt_v1
from edgesvit.models.layers import conv3x3, conv_spikes, halve, image_currents, over_frames
from edgesvit.models.lif import Lif
from edgesvit.models.recognise import Shapes, depth_of, image_size_of, shape_of
from edgesvit.models.tokens import TokenChoice
from edgesvit.models.variants import Variant

# The authors' code creates this layer in every block and never calls it.
DEAD_KEYS = (".talking_heads.weight",)


class SpikeDrivenTransformer(nn.Module):
    """Images [B, C, H, W] or event frames [B, T, C, H, W] to logits [B, classes], the mean over T.

    An image is shown at all `config.time_steps`; event frames bring their own T.
    """

    def __init__(self, config: SdtV1Config):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.block = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.head_lif = Lif(config.threshold)
        self.head = nn.Linear(config.dim, config.classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)  # [T, B, D, H, W], membranes
        for block in self.block:
            x = block(x)
        return self.head(self.head_lif(x.flatten(3).mean(3))).mean(0)


class PatchEmbed(nn.Module):
    """The convolutional stem and position branch: [B, (T,) C, H, W] to a stream [T, B, D, H, W]."""

    def __init__(self, config: SdtV1Config):
        super().__init__()
        self.time_steps = config.time_steps
        self.pool = tuple(stage == "1" for stage in config.pool)
        c0, c1, c2, c3 = config.stem
        self.proj_conv = conv3x3(config.in_channels, c0)
        self.proj_bn = nn.BatchNorm2d(c0)
        self.proj_lif = Lif(config.threshold)
        self.proj_conv1 = conv3x3(c0, c1)
        self.proj_bn1 = nn.BatchNorm2d(c1)
        self.proj_lif1 = Lif(config.threshold)
        self.proj_conv2 = conv3x3(c1, c2)
        self.proj_bn2 = nn.BatchNorm2d(c2)
        self.proj_lif2 = Lif(config.threshold)
        self.proj_conv3 = conv3x3(c2, c3)
        self.proj_bn3 = nn.BatchNorm2d(c3)
        self.proj_lif3 = Lif(config.threshold)
        self.rpe_conv = conv3x3(c3, c3)
        self.rpe_bn = nn.BatchNorm2d(c3)

    def forward(self, images: Tensor) -> Tensor:
        currents = image_currents(images, self.proj_conv, self.proj_bn, self.time_steps)
        x = self._pooled(self.proj_lif(currents), 0)
        x = self._pooled(conv_spikes(x, self.proj_conv1, self.proj_bn1, self.proj_lif1), 1)
        x = self._pooled(conv_spikes(x, self.proj_conv2, self.proj_bn2, self.proj_lif2), 2)
        # The last stage pools currents, before its neuron, and they are the stream.
        x = self._pooled(over_frames(x, self.proj_conv3, self.proj_bn3), 3)
        return x + over_frames(self.proj_lif3(x), self.rpe_conv, self.rpe_bn)

    def _pooled(self, x: Tensor, stage: int) -> Tensor:
        return halve(x) if self.pool[stage] else x


class Block(nn.Module):
    """Attention, then MLP; each branch adds its current to the stream [T, B, D, H, W]."""

    def __init__(self, config: SdtV1Config, index: int):
        super().__init__()
        self.attn = Attention(config, index)
        self.mlp = Mlp(config, index)
        self.tokens = TokenChoice(config, index, membranes=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens.over_map(lambda x: self.mlp(x + self.attn(x)), x)


class Attention(nn.Module):
    """Spike-driven self-attention: k and v agree on which channels of q pass.

    A channel's coincidences of k and v are counted over the tokens and drive one neuron; its spike
    lets that channel of q through. No product of two matrices, no scale, and no exchange between
    channels: without event pooling the heads change nothing. [T, B, D, H, W] to the same.
    """

    def __init__(self, config: SdtV1Config, index: int):
        super().__init__()
        self.heads, self.events = config.heads, config.events
        dim, width = config.dim, config.attention_dims[index]
        self.shortcut_lif = Lif(config.threshold)
        self.q_conv = nn.Conv2d(dim, width, kernel_size=1, bias=False)
        self.q_bn = nn.BatchNorm2d(width)
        self.q_lif = Lif(config.threshold)
        self.k_conv = nn.Conv2d(dim, width, kernel_size=1, bias=False)
        self.k_bn = nn.BatchNorm2d(width)
        self.k_lif = Lif(config.threshold)
        self.v_conv = nn.Conv2d(dim, width, kernel_size=1, bias=False)
        self.v_bn = nn.BatchNorm2d(width)
        self.v_lif = Lif(config.threshold)
        self.talking_heads_lif = Lif(config.attention_threshold)
        self.proj_conv = nn.Conv2d(width, dim, kernel_size=1)
        self.proj_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.shortcut_lif(x)
        q = conv_spikes(spikes, self.q_conv, self.q_bn, self.q_lif)
        k = conv_spikes(spikes, self.k_conv, self.k_bn, self.k_lif)
        v = conv_spikes(spikes, self.v_conv, self.v_bn, self.v_lif)
        passed = self._select_events(q, k, v) if self.events else self._select(q, k, v)
        return over_frames(passed, self.proj_conv, self.proj_bn)

    def _select(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q * self.talking_heads_lif((k * v).sum((3, 4), keepdim=True))

    def _select_events(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The DVS mode: k and v spread over the grid, then k v and q over tokens and channels."""
        coincidences = _spread(self._split(_spread(k)) * self._split(_spread(v)))
        mask = self.talking_heads_lif(coincidences.sum(3, keepdim=True))  # [T, B, h, 1, d]
        passed = _spread(self._split(q) * mask)  # [T, B, h, N, d]
        return passed.transpose(3, 4).reshape(q.shape)

    def _split(self, spikes: Tensor) -> Tensor:
        """[T, B, h d, H, W] to [T, B, h, N, d]."""
        return spikes.flatten(3).unflatten(2, (self.heads, -1)).transpose(3, 4)


class Mlp(nn.Module):
    """Two point-wise layers, a neuron before each, and the stream around them."""

    def __init__(self, config: SdtV1Config, index: int):
        super().__init__()
        dim, hidden = config.dim, config.hidden_dims[index]
        self.shortcut = config.mlp_shortcut
        self.fc1_lif = Lif(config.threshold)
        self.fc1_conv = nn.Conv2d(dim, hidden, kernel_size=1)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc2_lif = Lif(config.threshold)
        self.fc2_conv = nn.Conv2d(hidden, dim, kernel_size=1)
        self.fc2_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = over_frames(self.fc1_lif(x), self.fc1_conv, self.fc1_bn)
        if self.shortcut:  # at MLP ratio 1 the official code adds the stream twice
            x = hidden = x + hidden
        return x + over_frames(self.fc2_lif(hidden), self.fc2_conv, self.fc2_bn)


def _spread(x: Tensor) -> Tensor:
    """Every element becomes the largest of its 3x3 neighbours on the last two of five axes."""
    return F.max_pool3d(x, kernel_size=(1, 3, 3), stride=1, padding=(0, 1, 1))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(config: SdtV1Config) -> SpikeDrivenTransformer:
    """A freshly initialised model in channels-last memory order, in which the stem runs fastest."""
    return SpikeDrivenTransformer(config).to(memory_format=torch.channels_last)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> SdtV1Config | None:
    """The configuration of a checkpoint of this family, None for another family's.

    What leaves no trace in the tensors comes from `given` under the official names: img,
    pooling_stat, T, dvs_mode, num_heads. Unless given, T is 4, two input channels mean events, the
    image has 128 pixels (events), 224 (1000 classes) or 32, and images of 128 or more are pooled
    four times, smaller ones twice. UsageError when a tensor is missing or misshapen.
    """
    if len(shapes.get("block.0.attn.q_conv.weight", ())) != 4:
        return None
    if "patch_embed.proj_conv3.weight" not in shapes:
        return None
    if any(name.endswith("_lif.w") for name in shapes):
        raise UsageError("the checkpoint has neurons with a learned leak (PLIF), which no model "
                         "here has", "give a checkpoint trained with --spike-mode lif")
    convs = [shape_of(shapes, f"patch_embed.proj_conv{i}.weight", 4) for i in ("", "1", "2", "3")]
    classes, depth = shape_of(shapes, "head.weight", 2)[0], depth_of(shapes)
    stem, channels = tuple(shape[0] for shape in convs), convs[0][1]
    hidden = tuple(shape_of(shapes, f"block.{i}.mlp.fc1_conv.weight", 4)[0] for i in range(depth))
    events = bool(given.get("dvs_mode", channels == 2))
    size = image_size_of(given, 128 if events else 224 if classes == 1000 else 32)
    talking = shapes.get("block.0.attn.talking_heads.weight", (8,))
    return SdtV1Config(
        image_size=size, in_channels=channels, classes=classes, time_steps=given.get("T") or 4,
        stem=stem, pool=given.get("pooling_stat") or ("1111" if min(size) >= 128 else "0011"),
        depth=depth, heads=given.get("num_heads") or talking[0],
        attention_dims=tuple(shape_of(shapes, f"block.{i}.attn.q_conv.weight", 4)[0]
                             for i in range(depth)),
        hidden_dims=hidden, events=events, mlp_shortcut=set(hidden) == {stem[3]})


def _imagenet(name: str, dim: int, depth: int, parameters: int, accuracy: float,
              data: str = "ImageNet-1K, T=4, 224x224", side: int = 224) -> Variant:
    config = sdt_v1((side, side), 3, 1000, dim=dim, depth=depth)
    return Variant(name, config, parameters, accuracy, data,
                   "README of BICLab/Spike-Driven-Transformer")


def _cifar(dim: int, classes: int, parameters: int, accuracy: float | None) -> Variant:
    source = ("from memory of the paper (Yao et al., NeurIPS 2023)" if accuracy else
              "conf/ of BICLab/Spike-Driven-Transformer")
    return Variant(f"sdt-2-{dim}-cifar{classes}",
                   sdt_v1((32, 32), 3, classes, dim=dim, depth=2, pool="0011"),
                   parameters, accuracy, f"CIFAR-{classes}, T=4, 32x32", source)


VARIANTS = (
    _imagenet("sdt-8-384", 384, 8, 16_816_536, 72.28),
    _imagenet("sdt-6-512", 512, 6, 23_373_736, 74.11),
    _imagenet("sdt-8-512", 512, 8, 29_689_896, 74.57),
    _imagenet("sdt-10-512", 512, 10, 36_006_056, 74.66),
    _imagenet("sdt-8-768", 768, 8, 66_339_144, 77.07, "ImageNet-1K, T=4, 288x288", 288),
    _cifar(256, 10, 2_567_082, None),
    _cifar(512, 10, 10_233_546, 95.6),
    _cifar(512, 100, 10_279_716, 78.4),
)
