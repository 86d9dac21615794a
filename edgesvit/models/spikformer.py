"""Spikformer (Zhou et al., ICLR 2023): spikes everywhere, attention without softmax.

Notation: T time steps, B batch, C channels, N = H W tokens, h heads, d head width, D embedding.
Module and parameter names are those of the authors' CIFAR code, so that its checkpoints load. The
ImageNet code writes the same point-wise layers as convolutions without bias in q, k, v; only
names and tensor shapes differ, not the computation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesvit.models.config import SpikformerConfig
from edgesvit.models.lif import Lif


class Spikformer(nn.Module):
    """Normalised images [B, C, H, W] to logits [B, classes], the mean over T steps."""

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
    """The convolutional stem and position branch: [B, C, H, W] to a stream [T, B, N, D]."""

    def __init__(self, config: SpikformerConfig):
        super().__init__()
        self.time_steps = config.time_steps
        self.pool = tuple(stage == "1" for stage in config.pool)
        c0, c1, c2, c3 = config.stem
        self.proj_conv = _conv(config.in_channels, c0)
        self.proj_bn = nn.BatchNorm2d(c0)
        self.proj_lif = Lif(config.threshold)
        self.proj_conv1 = _conv(c0, c1)
        self.proj_bn1 = nn.BatchNorm2d(c1)
        self.proj_lif1 = Lif(config.threshold)
        self.proj_conv2 = _conv(c1, c2)
        self.proj_bn2 = nn.BatchNorm2d(c2)
        self.proj_lif2 = Lif(config.threshold)
        self.proj_conv3 = _conv(c2, c3)
        self.proj_bn3 = nn.BatchNorm2d(c3)
        self.proj_lif3 = Lif(config.threshold)
        self.rpe_conv = _conv(c3, c3)
        self.rpe_bn = nn.BatchNorm2d(c3)
        self.rpe_lif = Lif(config.threshold)

    def forward(self, images: Tensor) -> Tensor:
        # The image is the same at every step, so its convolution is done once, not T times. The
        # batch statistics of T copies are those of one; only running_var's n/(n-1) sees B H W
        # values instead of T B H W.
        current = self.proj_bn(self.proj_conv(images))
        spikes = self.proj_lif(current.expand(self.time_steps, *current.shape))
        x = self._pooled(spikes, 0)
        stages = (
            (self.proj_conv1, self.proj_bn1, self.proj_lif1),
            (self.proj_conv2, self.proj_bn2, self.proj_lif2),
            (self.proj_conv3, self.proj_bn3, self.proj_lif3),
        )
        for index, stage in enumerate(stages, start=1):
            x = self._pooled(_conv_spikes(x, *stage), index)
        x = x + _conv_spikes(x, self.rpe_conv, self.rpe_bn, self.rpe_lif)  # [T, B, D, H, W]
        return x.permute(0, 1, 3, 4, 2).flatten(2, 3)

    def _pooled(self, spikes: Tensor, stage: int) -> Tensor:
        if not self.pool[stage]:
            return spikes
        pooled = F.max_pool2d(spikes.flatten(0, 1), kernel_size=3, stride=2, padding=1)
        return pooled.unflatten(0, spikes.shape[:2])


class Block(nn.Module):
    """Attention, then MLP; each branch adds its spikes to the stream [T, B, N, D]."""

    def __init__(self, config: SpikformerConfig, index: int):
        super().__init__()
        self.attn = Attention(config, index)
        self.mlp = Mlp(config, index)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Attention(nn.Module):
    """Spiking self-attention: LIF((q k^T) v scale), then a projection; [T, B, N, D] to the same."""

    def __init__(self, config: SpikformerConfig, index: int):
        super().__init__()
        self.heads, self.scale = config.heads, config.attention_scale
        dim, qk, v = config.dim, config.qk_dims[index], config.v_dims[index]
        self.q_linear = nn.Linear(dim, self.heads * qk)
        self.q_bn = nn.BatchNorm1d(self.heads * qk)
        self.q_lif = Lif(config.threshold)
        self.k_linear = nn.Linear(dim, self.heads * qk)
        self.k_bn = nn.BatchNorm1d(self.heads * qk)
        self.k_lif = Lif(config.threshold)
        self.v_linear = nn.Linear(dim, self.heads * v)
        self.v_bn = nn.BatchNorm1d(self.heads * v)
        self.v_lif = Lif(config.threshold)
        self.attn_lif = Lif(config.attention_threshold)
        self.proj_linear = nn.Linear(self.heads * v, dim)
        self.proj_bn = nn.BatchNorm1d(dim)
        self.proj_lif = Lif(config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        q = self._split(_linear_spikes(x, self.q_linear, self.q_bn, self.q_lif))
        k = self._split(_linear_spikes(x, self.k_linear, self.k_bn, self.k_lif))
        v = self._split(_linear_spikes(x, self.v_linear, self.v_bn, self.v_lif))
        # Without softmax the product is associative and all sums are integers: either order gives
        # the same bits, so take the cheaper one.
        tokens, d = q.shape[-2:]
        if tokens <= d:
            sums = (q @ k.transpose(-2, -1)) @ v
        else:
            sums = q @ (k.transpose(-2, -1) @ v)
        merged = sums.transpose(2, 3).flatten(3)  # [T, B, h, N, d] to [T, B, N, h d]
        spikes = self.attn_lif(merged * self.scale)
        return _linear_spikes(spikes, self.proj_linear, self.proj_bn, self.proj_lif)

    def _split(self, spikes: Tensor) -> Tensor:
        """[T, B, N, h d] to [T, B, h, N, d]."""
        return spikes.unflatten(-1, (self.heads, -1)).transpose(2, 3)


class Mlp(nn.Module):
    """Two point-wise layers, each followed by a neuron; [T, B, N, D] to the same."""

    def __init__(self, config: SpikformerConfig, index: int):
        super().__init__()
        dim, hidden = config.dim, config.hidden_dims[index]
        self.fc1_linear = nn.Linear(dim, hidden)
        self.fc1_bn = nn.BatchNorm1d(hidden)
        self.fc1_lif = Lif(config.threshold)
        self.fc2_linear = nn.Linear(hidden, dim)
        self.fc2_bn = nn.BatchNorm1d(dim)
        self.fc2_lif = Lif(config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        x = _linear_spikes(x, self.fc1_linear, self.fc1_bn, self.fc1_lif)
        return _linear_spikes(x, self.fc2_linear, self.fc2_bn, self.fc2_lif)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)


def _conv_spikes(x: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d, lif: Lif) -> Tensor:
    """[T, B, C, H, W] to spikes [T, B, C', H, W]; time and batch are one axis for conv and BN."""
    return lif(bn(conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]))


def _linear_spikes(x: Tensor, linear: nn.Linear, bn: nn.BatchNorm1d, lif: Lif) -> Tensor:
    """[T, B, N, C] to spikes [T, B, N, C']; BN takes every token of every step as one sample."""
    currents = bn(linear(x).flatten(0, 2))
    return lif(currents.unflatten(0, x.shape[:3]))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build(config: SpikformerConfig) -> Spikformer:
    """A freshly initialised model in channels-last memory order, in which the stem runs fastest."""
    return Spikformer(config).to(memory_format=torch.channels_last)
