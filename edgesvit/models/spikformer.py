"""Spikformer (Zhou et al., ICLR 2023): spikes everywhere, attention without softmax.

Notation: T time steps, B batch, C channels, N = H W tokens, h heads, d head width, D embedding.
Module and parameter names are those of the authors' code, so that its checkpoints load. Their
CIFAR code (form 'linear') has `q_linear` and so on; the ImageNet and the event code ('conv', 'dvs')
write the same layers as 1x1 convolutions `q_conv`, without bias in q, k, v. Names and tensor shapes
differ, the computation does not: here all run on tokens [..., C].
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesvit.errors import UsageError
from edgesvit.models.config import SpikformerConfig, spikformer
from edgesvit.models.layers import conv3x3, conv_spikes, halve, image_currents
from edgesvit.models.lif import Lif
from edgesvit.models.recognise import Shapes, depth_of, image_size_of, shape_of
from edgesvit.models.tokens import TokenChoice
from edgesvit.models.variants import Variant

# The authors' code creates LayerNorms in every block, and for events one more and a position
# table, and never uses them.
DEAD_KEYS = (".norm1.weight", ".norm1.bias", ".norm2.weight", ".norm2.bias",
             "norm.weight", "norm.bias", "pos_embed")

# By form and embedding width; the head count leaves no trace in the tensors.
PUBLISHED_HEADS = {("linear", 384): 12, ("conv", 384): 12, ("conv", 512): 8, ("conv", 768): 12,
                   ("dvs", 256): 16}


class Spikformer(nn.Module):
    """Images [B, C, H, W] or event frames [B, T, C, H, W] to logits [B, classes], the mean over T.

    An image is shown at all `config.time_steps`; event frames bring their own T.
    """

    def __init__(self, config: SpikformerConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.block = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.head = nn.Linear(config.dim, config.classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)  # [T, B, N, D], values 0..2
        for block in self.block:
            x = block(x)
        return self.head(x.mean(2)).mean(0)


class PatchEmbed(nn.Module):
    """The convolutional stem and position branch: [B, (T,) C, H, W] to a stream [T, B, N, D]."""

    def __init__(self, config: SpikformerConfig):
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
        self.rpe_lif = Lif(config.threshold)

    def forward(self, images: Tensor) -> Tensor:
        currents = image_currents(images, self.proj_conv, self.proj_bn, self.time_steps)
        x = self._pooled(self.proj_lif(currents), 0)
        stages = (
            (self.proj_conv1, self.proj_bn1, self.proj_lif1),
            (self.proj_conv2, self.proj_bn2, self.proj_lif2),
            (self.proj_conv3, self.proj_bn3, self.proj_lif3),
        )
        for index, stage in enumerate(stages, start=1):
            x = self._pooled(conv_spikes(x, *stage), index)
        x = x + conv_spikes(x, self.rpe_conv, self.rpe_bn, self.rpe_lif)  # [T, B, D, H, W]
        return x.permute(0, 1, 3, 4, 2).flatten(2, 3)

    def _pooled(self, spikes: Tensor, stage: int) -> Tensor:
        return halve(spikes) if self.pool[stage] else spikes


class Block(nn.Module):
    """Attention, then MLP; each branch adds its spikes to the stream [T, B, N, D]."""

    def __init__(self, config: SpikformerConfig, index: int):
        super().__init__()
        self.attn = Attention(config, index)
        self.mlp = Mlp(config, index)
        self.tokens = TokenChoice(config, index, membranes=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens.over_tokens(self.branches, x)

    def branches(self, x: Tensor) -> Tensor:
        """The block on those tokens that pass through it."""
        x = x + self.attn(x)
        return x + self.mlp(x)


class PointLayers(nn.Module):
    """Named layers on tokens [T, B, N, C], each a linear map, a batch norm and a neuron."""

    def __init__(self, config: SpikformerConfig):
        super().__init__()
        self.form, self.kind, self.threshold = config.form, config.point_layer, config.threshold

    def add(self, name: str, inputs: int, outputs: int) -> None:
        bias = self.form == "linear" or name not in ("q", "k", "v")
        if self.form == "linear":
            layer = nn.Linear(inputs, outputs)
        else:
            axes = 2 if self.form == "conv" and name.startswith("fc") else 1
            layer = PointConv(inputs, outputs, axes, bias)
        self.add_module(f"{name}_{self.kind}", layer)
        self.add_module(f"{name}_bn", nn.BatchNorm1d(outputs))
        self.add_module(f"{name}_lif", Lif(self.threshold))

    def spikes(self, name: str, x: Tensor) -> Tensor:
        """[T, B, N, C] to spikes [T, B, N, C']; BN takes every token of every step as a sample."""
        layer, bn, lif = (getattr(self, f"{name}_{part}") for part in (self.kind, "bn", "lif"))
        return lif(bn(layer(x).flatten(0, 2)).unflatten(0, x.shape[:3]))


class PointConv(nn.Linear):
    """A linear map whose weight has the shape of a 1x1 convolution: [C', C] and `axes` ones."""

    def __init__(self, inputs: int, outputs: int, axes: int, bias: bool):
        super().__init__(inputs, outputs, bias)
        self.weight = nn.Parameter(self.weight.detach()[(...,) + (None,) * axes])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)


class Attention(PointLayers):
    """Spiking self-attention: LIF((q k^T) v scale), then a projection; [T, B, N, D] to the same."""

    def __init__(self, config: SpikformerConfig, index: int):
        super().__init__(config)
        self.heads, self.scale = config.heads, config.attention_scale
        qk, v = self.heads * config.qk_dims[index], self.heads * config.v_dims[index]
        self.add("q", config.dim, qk)
        self.add("k", config.dim, qk)
        self.add("v", config.dim, v)
        self.attn_lif = Lif(config.attention_threshold)
        self.add("proj", v, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(self.spikes(name, x)) for name in ("q", "k", "v"))
        # Without softmax the product is associative and all sums are integers: either order gives
        # the same bits, so take the cheaper one.
        tokens, d = q.shape[-2:]
        if tokens <= d:
            sums = (q @ k.transpose(-2, -1)) @ v
        else:
            sums = q @ (k.transpose(-2, -1) @ v)
        merged = sums.transpose(2, 3).flatten(3)  # [T, B, h, N, d] to [T, B, N, h d]
        return self.spikes("proj", self.attn_lif(merged * self.scale))

    def _split(self, spikes: Tensor) -> Tensor:
        """[T, B, N, h d] to [T, B, h, N, d]."""
        return spikes.unflatten(-1, (self.heads, -1)).transpose(2, 3)


class Mlp(PointLayers):
    """Two point-wise layers, each followed by a neuron; [T, B, N, D] to the same."""

    def __init__(self, config: SpikformerConfig, index: int):
        super().__init__(config)
        self.add("fc1", config.dim, config.hidden_dims[index])
        self.add("fc2", config.hidden_dims[index], config.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.spikes("fc2", self.spikes("fc1", x))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build(config: SpikformerConfig) -> Spikformer:
    """A freshly initialised model in channels-last memory order, in which the stem runs fastest."""
    return Spikformer(config).to(memory_format=torch.channels_last)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> SpikformerConfig | None:
    """The configuration of a checkpoint of this family, None for another family's.

    What leaves no trace in the tensors comes from `given` under the official names: num_heads,
    img, T, pooling_stat. Unless given, they are what the authors' code of that form has; heads are
    known for the published widths only. UsageError when a tensor is missing or misshapen, or the
    heads do not divide it.
    """
    form = _form(shapes)
    if form is None:
        return None
    kind = "linear" if form == "linear" else "conv"
    convs = [shape_of(shapes, f"patch_embed.proj_conv{i}.weight", 4) for i in ("", "1", "2", "3")]
    heads = given.get("num_heads") or PUBLISHED_HEADS.get((form, convs[3][0]))
    if not heads or heads < 1:
        raise UsageError(
            "the number of heads cannot be read off a Spikformer's tensors, "
            f"and none is published for the {form} form at width {convs[3][0]}",
            "give the number of heads the model was trained with")
    classes, depth = shape_of(shapes, "head.weight", 2)[0], depth_of(shapes)
    ranks = {"linear": (2, 2), "conv": (3, 4), "dvs": (3, 3)}[form]
    qk, v = ([_per_head(shapes, f"block.{i}.attn.{layer}_{kind}", ranks[0], heads)
              for i in range(depth)] for layer in ("q", "v"))
    hidden = [shape_of(shapes, f"block.{i}.mlp.fc1_{kind}.weight", ranks[1])[0]
              for i in range(depth)]
    return SpikformerConfig(
        form=form, in_channels=convs[0][1], classes=classes, stem=tuple(c[0] for c in convs),
        image_size=image_size_of(given, {"linear": 32, "conv": 224, "dvs": 128}[form]),
        time_steps=given.get("T") or (16 if form == "dvs" else 4),
        pool=given.get("pooling_stat") or ("0011" if form == "linear" else "1111"),
        depth=depth, heads=heads, qk_dims=tuple(qk), v_dims=tuple(v), hidden_dims=tuple(hidden),
        attention_scale=0.25 if form == "dvs" else 0.125)


def _form(shapes: Shapes) -> str | None:
    if "patch_embed.proj_conv3.weight" not in shapes:
        return None
    if "block.0.attn.q_linear.weight" in shapes:
        return "linear"
    if len(shapes.get("block.0.attn.q_conv.weight", ())) != 3:
        return None
    return "dvs" if len(shapes.get("block.0.mlp.fc1_conv.weight", ())) == 3 else "conv"


def _per_head(shapes: Shapes, layer: str, rank: int, heads: int) -> int:
    width = shape_of(shapes, f"{layer}.weight", rank)[0]
    if width % heads:
        raise UsageError(f"{layer} has {width} rows, which {heads} heads cannot share",
                         "give the number of heads the model was trained with")
    return width // heads


_TABLE = "table of the paper (Zhou et al., ICLR 2023), three copies agree"
_MEMORY = "from memory of the paper (Zhou et al., ICLR 2023)"
_NOTE = f"{_MEMORY}; a third party's note agrees"


def _imagenet(dim: int, depth: int, heads: int, parameters: int, accuracy: float) -> Variant:
    config = spikformer((224, 224), 3, 1000, dim=dim, depth=depth, heads=heads, form="conv")
    return Variant(f"spikformer-{depth}-{dim}", config, parameters, accuracy,
                   "ImageNet-1K, T=4, 224x224", _TABLE)


def _cifar(dim: int, depth: int, classes: int, parameters: int, accuracy: float,
           note: str = "", source: str = _MEMORY) -> Variant:
    config = spikformer((32, 32), 3, classes, dim=dim, depth=depth, heads=dim // 32)
    name = f"spikformer-{depth}-{dim}-cifar{classes}" + (f"-{note}" if note else "")
    return Variant(name, config, parameters, accuracy, f"CIFAR-{classes}, T=4, 32x32", source)


VARIANTS = (
    _imagenet(384, 8, 12, 16_828_312, 70.24),
    _imagenet(512, 6, 8, 23_385_640, 72.46),
    _imagenet(512, 8, 8, 29_705_768, 73.38),
    _imagenet(512, 10, 8, 36_025_896, 73.68),
    _imagenet(768, 8, 12, 66_363_208, 74.81),
    _cifar(256, 4, 10, 4_159_274, 93.94),
    _cifar(256, 4, 100, 4_182_404, 75.96),
    _cifar(384, 2, 10, 5_768_122, 94.80),
    _cifar(384, 2, 100, 5_802_772, 76.95),
    _cifar(384, 4, 10, 9_330_874, 95.19),
    _cifar(384, 4, 100, 9_365_524, 77.86, source=_NOTE),
    _cifar(384, 4, 10, 9_330_874, 95.51, "400epochs"),
    _cifar(384, 4, 100, 9_365_524, 78.21, "400epochs"),
)
