"""QKFormer (Zhou et al., NeurIPS 2024): token attention first, then attention without softmax.

Notation: T time steps, B batch, C channels, N = H W tokens, h heads, d head width, D last width.
Names are those of the authors' ImageNet and CIFAR codes, so that their checkpoints load and every
neuron is found under its official path. Max-pooling stands before the neuron here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgesvit.errors import UsageError
from edgesvit.models.config import QKFormerConfig, qkformer
from edgesvit.models.layers import conv3x3, conv_spikes, halve, image_currents, over_frames
from edgesvit.models.lif import Lif
from edgesvit.models.recognise import Shapes, depth_of, image_size_of, shape_of
from edgesvit.models.tokens import TokenChoice
from edgesvit.models.variants import Variant

# The authors name the same parts differently: the stage-3 attention and the MLP's layers.
NAMES = {"imagenet": ("attn", "fc"), "cifar": ("ssa", "mlp")}
DEAD_KEYS: tuple[str, ...] = ()


class QKFormer(nn.Module):
    """Normalised images [B, C, H, W] to logits [B, classes], the mean over T steps."""

    def __init__(self, config: QKFormerConfig):
        super().__init__()
        self.config = config
        stem, *widths = config.widths
        self.patch_embed1 = FirstEmbed(config)
        inner = config.embed_inner
        self.patch_embed2 = NextEmbed(config, widths[0], inner[1], widths[1])
        self.patch_embed3 = NextEmbed(config, widths[1], inner[2], widths[2])
        one, two, three = config.depths
        self.stage1 = nn.ModuleList(TokenBlock(config, widths[0], i) for i in range(one))
        self.stage2 = nn.ModuleList(TokenBlock(config, widths[1], one + i) for i in range(two))
        self.stage3 = nn.ModuleList(Block(config, i) for i in range(three))
        self.head = nn.Linear(config.dim, config.classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed1(images)  # [T, B, D/4, H, W], values 0..2
        for block in self.stage1:
            x = block(x)
        x = self.patch_embed2(x)
        for block in self.stage2:
            x = block(x)
        x = self.patch_embed3(x)
        for block in self.stage3:
            x = block(x)
        return self.head(x.flatten(3).mean(3)).mean(0)


class FirstEmbed(nn.Module):
    """Images [B, C, H, W] to a stream [T, B, D/4, H', W']: H' = H/4, in the CIFAR form H."""

    def __init__(self, config: QKFormerConfig):
        super().__init__()
        self.time_steps, self.large = config.time_steps, config.form == "imagenet"
        stem, width = config.widths[:2]
        self.proj_conv = conv3x3(config.in_channels, stem)
        self.proj_bn = nn.BatchNorm2d(stem)
        self.proj_lif = Lif(config.threshold)
        inner = config.embed_inner[0] if self.large else width
        self.proj1_conv = conv3x3(stem, inner)
        self.proj1_bn = nn.BatchNorm2d(inner)
        self.proj1_lif = Lif(config.threshold)
        if self.large:
            self.proj2_conv = conv3x3(inner, width)
            self.proj2_bn = nn.BatchNorm2d(width)
            self.proj2_lif = Lif(config.threshold)
        self.proj_res_conv = _shortcut(stem, width, stride=2 if self.large else 1)
        self.proj_res_bn = nn.BatchNorm2d(width)
        self.proj_res_lif = Lif(config.threshold)

    def forward(self, images: Tensor) -> Tensor:
        current = image_currents(images, self.proj_conv, self.proj_bn, 1)
        if self.large:
            current = halve(current)
        first = self.proj_lif(current.expand(self.time_steps, *current.shape[1:]))
        shortcut = conv_spikes(first, self.proj_res_conv, self.proj_res_bn, self.proj_res_lif)
        if not self.large:
            return conv_spikes(first, self.proj1_conv, self.proj1_bn, self.proj1_lif) + shortcut
        x = self.proj1_lif(halve(over_frames(first, self.proj1_conv, self.proj1_bn)))
        return conv_spikes(x, self.proj2_conv, self.proj2_bn, self.proj2_lif) + shortcut


class NextEmbed(nn.Module):
    """Half the height and width: [T, B, C, H, W] to [T, B, C', H/2, W/2]."""

    def __init__(self, config: QKFormerConfig, inputs: int, inner: int, outputs: int):
        super().__init__()
        self.pool_first = config.form == "imagenet"
        self.proj3_conv = conv3x3(inputs, inner)
        self.proj3_bn = nn.BatchNorm2d(inner)
        self.proj3_lif = Lif(config.threshold)
        self.proj4_conv = conv3x3(inner, outputs)
        self.proj4_bn = nn.BatchNorm2d(outputs)
        self.proj4_lif = Lif(config.threshold)
        self.proj_res_conv = _shortcut(inputs, outputs, stride=2)
        self.proj_res_bn = nn.BatchNorm2d(outputs)
        self.proj_res_lif = Lif(config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        main = over_frames(x, self.proj3_conv, self.proj3_bn)
        main = self.proj3_lif(halve(main) if self.pool_first else main)
        main = over_frames(main, self.proj4_conv, self.proj4_bn)
        main = self.proj4_lif(main if self.pool_first else halve(main))
        return main + conv_spikes(x, self.proj_res_conv, self.proj_res_bn, self.proj_res_lif)


class TokenBlock(nn.Module):
    """Token attention, then MLP; each branch adds its spikes to the stream [T, B, C, H, W]."""

    def __init__(self, config: QKFormerConfig, dim: int, index: int):
        super().__init__()
        self.tssa = TokenAttention(config, dim, config.qk_dims[index])
        self.mlp = Mlp(config, dim, config.hidden_dims[index])
        self.tokens = TokenChoice(config, index, membranes=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens.over_map(self.branches, x)

    def branches(self, x: Tensor) -> Tensor:
        """The block on those tokens that pass through it."""
        x = x + self.tssa(x)
        return x + self.mlp(x)


class Block(nn.Module):
    """Self-attention, then MLP; each branch adds its spikes to the stream [T, B, C, H, W]."""

    def __init__(self, config: QKFormerConfig, index: int):
        super().__init__()
        self.name = NAMES[config.form][0]
        self.add_module(self.name, Attention(config, index))
        index += sum(config.depths[:2])
        self.mlp = Mlp(config, config.dim, config.hidden_dims[index])
        self.tokens = TokenChoice(config, index, membranes=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens.over_map(self.branches, x)

    def branches(self, x: Tensor) -> Tensor:
        """The block on those tokens that pass through it."""
        x = x + self.get_submodule(self.name)(x)
        return x + self.mlp(x)


class TokenAttention(nn.Module):
    """A head's query spikes, summed, decide which tokens of its key pass; [T, B, C, H, W]."""

    def __init__(self, config: QKFormerConfig, dim: int, qk: int):
        super().__init__()
        self.heads = config.heads
        self.q_conv = nn.Conv1d(dim, self.heads * qk, kernel_size=1, bias=False)
        self.q_bn = nn.BatchNorm1d(self.heads * qk)
        self.q_lif = Lif(config.threshold)
        self.k_conv = nn.Conv1d(dim, self.heads * qk, kernel_size=1, bias=False)
        self.k_bn = nn.BatchNorm1d(self.heads * qk)
        self.k_lif = Lif(config.threshold)
        self.attn_lif = Lif(config.attention_threshold)
        self.proj_conv = nn.Conv1d(self.heads * qk, dim, kernel_size=1)
        self.proj_bn = nn.BatchNorm1d(dim)
        self.proj_lif = Lif(config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(3)  # [T, B, C, N]
        q = conv_spikes(tokens, self.q_conv, self.q_bn, self.q_lif)
        k = conv_spikes(tokens, self.k_conv, self.k_bn, self.k_lif)
        mask = self.attn_lif(q.unflatten(2, (self.heads, -1)).sum(3, keepdim=True))
        passed = (mask * k.unflatten(2, (self.heads, -1))).flatten(2, 3)  # [T,B,h,d,N] to [..C,N]
        out = conv_spikes(passed, self.proj_conv, self.proj_bn, self.proj_lif)
        return out.unflatten(3, x.shape[3:])


class Attention(nn.Module):
    """Spiking self-attention: LIF(q (k^T v) scale), then a projection; [T, B, C, H, W]."""

    def __init__(self, config: QKFormerConfig, index: int):
        super().__init__()
        self.heads, self.scale = config.heads, config.attention_scale
        self.leaking = config.proj_lif_axis == "batch_time"
        dim, v = config.dim, config.v_dims[index]
        qk = config.qk_dims[sum(config.depths[:2]) + index]
        self.q_conv = nn.Conv1d(dim, self.heads * qk, kernel_size=1, bias=False)
        self.q_bn = nn.BatchNorm1d(self.heads * qk)
        self.q_lif = Lif(config.threshold)
        self.k_conv = nn.Conv1d(dim, self.heads * qk, kernel_size=1, bias=False)
        self.k_bn = nn.BatchNorm1d(self.heads * qk)
        self.k_lif = Lif(config.threshold)
        self.v_conv = nn.Conv1d(dim, self.heads * v, kernel_size=1, bias=False)
        self.v_bn = nn.BatchNorm1d(self.heads * v)
        self.v_lif = Lif(config.threshold)
        self.attn_lif = Lif(config.attention_threshold)
        self.proj_conv = nn.Conv1d(self.heads * v, dim, kernel_size=1)
        self.proj_bn = nn.BatchNorm1d(dim)
        self.proj_lif = Lif(config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(3)  # [T, B, C, N]
        q = self._split(conv_spikes(tokens, self.q_conv, self.q_bn, self.q_lif))  # [T, B, h, d, N]
        k = self._split(conv_spikes(tokens, self.k_conv, self.k_bn, self.k_lif))
        v = self._split(conv_spikes(tokens, self.v_conv, self.v_bn, self.v_lif))
        # All sums are integers, so either order gives the same bits: take the cheaper one.
        if tokens.shape[3] <= q.shape[3]:
            sums = v @ (k.transpose(-2, -1) @ q)
        else:
            sums = (v @ k.transpose(-2, -1)) @ q
        spikes = self.attn_lif(sums.flatten(2, 3) * self.scale)  # [T, B, h d, N]
        currents = self.proj_bn(self.proj_conv(spikes.flatten(0, 1)))  # [T B, C, N]
        if self.leaking:  # the neuron steps through T B frames: images leak into their neighbours
            out = self.proj_lif(currents).unflatten(0, x.shape[:2])
        else:
            out = self.proj_lif(currents.unflatten(0, x.shape[:2]))
        return out.unflatten(3, x.shape[3:])

    def _split(self, spikes: Tensor) -> Tensor:
        """[T, B, h d, N] to [T, B, h, d, N]."""
        return spikes.unflatten(2, (self.heads, -1))


class Mlp(nn.Module):
    """Two point-wise layers, each followed by a neuron; [T, B, C, H, W] to the same."""

    def __init__(self, config: QKFormerConfig, dim: int, hidden: int):
        super().__init__()
        self.name = NAMES[config.form][1]
        for layer, inputs, outputs in ((1, dim, hidden), (2, hidden, dim)):
            self.add_module(f"{self.name}{layer}_conv", nn.Conv2d(inputs, outputs, kernel_size=1))
            self.add_module(f"{self.name}{layer}_bn", nn.BatchNorm2d(outputs))
            self.add_module(f"{self.name}{layer}_lif", Lif(config.threshold))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (1, 2):
            parts = (f"{self.name}{layer}_{part}" for part in ("conv", "bn", "lif"))
            x = conv_spikes(x, *(self.get_submodule(part) for part in parts))
        return x


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(config: QKFormerConfig) -> QKFormer:
    """A freshly initialised model in channels-last memory order."""
    return QKFormer(config).to(memory_format=torch.channels_last)


def recognise(shapes: Shapes, given: Mapping[str, Any]) -> QKFormerConfig | None:
    """The configuration behind official tensors, None when they are of another family.

    Heads, image size and T leave no trace in the tensors: `given` names them as the official code
    does (num_heads, img, T; also proj_lif_axis), else they are those of the published models. The
    CIFAR code always uses 8 heads, whatever it is given.
    """
    if not any(name.startswith("patch_embed1.") or ".tssa." in name for name in shapes):
        return None
    form = "cifar" if any(".ssa." in name or ".mlp.mlp" in name for name in shapes) else "imagenet"
    attention, mlp = NAMES[form]
    first = shape_of(shapes, "patch_embed1.proj_conv.weight", 4)
    widths = (first[0], shape_of(shapes, "patch_embed1.proj_res_conv.weight", 4)[0],
              *(shape_of(shapes, f"patch_embed{i}.proj4_conv.weight", 4)[0] for i in (2, 3)))
    depths = tuple(depth_of(shapes, f"stage{i}") for i in (1, 2, 3))
    heads = 8 if form == "cifar" else _heads(widths[3], given)
    inner = ([shape_of(shapes, "patch_embed1.proj1_conv.weight", 4)[0]]
             if form == "imagenet" else []) + [
        shape_of(shapes, f"patch_embed{i}.proj3_conv.weight", 4)[0] for i in (2, 3)]
    token = [f"stage{s}.{i}" for s in (1, 2) for i in range(depths[s - 1])]
    last = [f"stage3.{i}" for i in range(depths[2])]
    queries = [f"{block}.tssa" for block in token] + [f"{block}.{attention}" for block in last]
    return QKFormerConfig(
        form=form, image_size=image_size_of(given, 224 if form == "imagenet" else 32),
        in_channels=first[1], classes=shape_of(shapes, "head.weight", 2)[0],
        time_steps=given.get("T") or 4, widths=widths, depths=depths, heads=heads,
        qk_dims=tuple(_per_head(shapes, f"{name}.q_conv.weight", heads) for name in queries),
        v_dims=tuple(_per_head(shapes, f"{block}.{attention}.v_conv.weight", heads)
                     for block in last),
        hidden_dims=tuple(shape_of(shapes, f"{block}.mlp.{mlp}1_conv.weight", 4)[0]
                          for block in token + last), embed_dims=tuple(inner),
        proj_lif_axis=given.get("proj_lif_axis") or "batch_time")


def _heads(dim: int, given: Mapping[str, Any]) -> int:
    published = {384: 6, 512: 8, 768: 12}
    heads = given.get("num_heads") or published.get(dim)
    if heads is None:
        raise UsageError(f"a QKFormer of width {dim} does not tell its number of heads",
                         "give num_heads, the number it was trained with")
    return heads


def _per_head(shapes: Shapes, name: str, heads: int) -> int:
    rows = shape_of(shapes, name, 3)[0]
    if heads < 1 or rows % heads:
        raise UsageError(f"{name} has {rows} rows, which {heads} heads cannot share",
                         "give num_heads, the number it was trained with")
    return rows // heads


_SOURCE = "README of zhouchenlin2096/QKFormer; needs the batch-leaking neuron and batches"


def _imagenet(name: str, dim: int, heads: int, parameters: int, accuracy: float,
              size: int = 224) -> Variant:
    config = qkformer((size, size), 3, 1000, dim=dim, depth=10, heads=heads, form="imagenet",
                      proj_lif_axis="batch_time")
    return Variant(name, config, parameters, accuracy, f"ImageNet-1K, T=4, {size}x{size}",
                   _SOURCE)


def _cifar(classes: int, parameters: int, accuracy: float) -> Variant:
    config = qkformer((32, 32), 3, classes, dim=384, depth=4, heads=8, form="cifar",
                      proj_lif_axis="batch_time")
    return Variant(f"qkformer-4-384-cifar{classes}", config, parameters, accuracy,
                   f"CIFAR-{classes}, T=4, 32x32", _SOURCE)


VARIANTS: tuple[Variant, ...] = (
    _imagenet("QKFormer_10_384", 384, 6, 16_473_688, 78.80),
    _imagenet("QKFormer_10_512", 512, 8, 29_079_336, 82.04),
    _imagenet("QKFormer_10_768", 768, 12, 64_962_760, 84.22),
    _imagenet("QKFormer_10_768_288", 768, 12, 64_962_760, 85.25, size=288),
    _imagenet("QKFormer_10_768_384", 768, 12, 64_962_760, 85.65, size=384),
    _cifar(10, 6_706_234, 96.18),
    _cifar(100, 6_740_884, 81.15),
)
