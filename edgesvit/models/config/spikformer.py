"""What a model is, as plain data: enough to build it, prune it, count it and lower it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.checks import (
    MAX_TIME_STEPS,
    check_blocks,
    check_positive,
    check_stem_pool,
    check_time_steps,
    stem_sizes,
    stem_widths,
)
from edgesvit.models.config.token_pruning import TokenPruning, settle_token_pruning

MAX_EVENT_STEPS = 64  # event frames run as float models only


class SpikformerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True,
                       tag_field="family", tag="spikformer"):
    """A Spikformer (Zhou et al., ICLR 2023), dense or pruned; the neuron's tau is always 2.

    `stem` are the widths of the four convolutions, the last one is the embedding width D. A '1' in
    `pool` puts a max-pool (3x3, stride 2, padding 1) behind that stage's neuron: '0011' is the
    CIFAR form, '1111' the ImageNet form. `qk_dims`, `v_dims` are per head, one entry per block;
    `hidden_dims` is the MLP's width, one entry per block. A pruned model has smaller entries.

    `form` says which of the authors' three codes names the tensors: 'linear' (CIFAR; nn.Linear,
    bias in q, k, v), 'conv' (ImageNet; 1x1 convolutions, none there) or 'dvs' (as 'conv', for event
    frames). The computation is the same.
    """

    form: Literal["linear", "conv", "dvs"] = "linear"
    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int
    classes: int
    time_steps: int
    stem: tuple[int, int, int, int]
    pool: str
    depth: int
    heads: int
    qk_dims: tuple[int, ...]
    v_dims: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    attention_scale: float = 0.125
    attention_threshold: float = 0.5
    threshold: float = 1.0
    token_pruning: TokenPruning | None = None

    def __post_init__(self) -> None:
        check_time_steps(self.time_steps,
                         MAX_EVENT_STEPS if self.form == "dvs" else MAX_TIME_STEPS)
        check_stem_pool(self.pool)
        check_positive(self, ("in_channels", "classes", "depth", "heads", "image_size", "stem"))
        check_blocks(self, ("qk_dims", "v_dims", "hidden_dims"), self.depth)
        settle_token_pruning(self)

    @property
    def point_layer(self) -> Literal["linear", "conv"]:
        """What the names of point-wise layers end in: q_linear or q_conv."""
        return "linear" if self.form == "linear" else "conv"

    @property
    def dim(self) -> int:
        """The embedding width D, the channels of the residual stream."""
        return self.stem[3]

    @property
    def stage_sizes(self) -> tuple[tuple[int, int], ...]:
        """H, W at which each of the four stem convolutions runs, then H, W of the token grid."""
        return stem_sizes(self.image_size, self.pool)

    @property
    def tokens(self) -> int:
        """The number of tokens N."""
        height, width = self.stage_sizes[-1]
        return height * width


def spikformer(
    image_size: tuple[int, int],
    in_channels: int,
    classes: int,
    *,
    dim: int,
    depth: int,
    heads: int,
    time_steps: int = 4,
    mlp_ratio: int = 4,
    stem: Sequence[int] | None = None,
    pool: str | None = None,
    attention_scale: float | None = None,
    form: Literal["linear", "conv", "dvs"] = "linear",
) -> SpikformerConfig:
    """An unpruned Spikformer; the stem widens D/8, D/4, D/2, D unless `stem` gives its widths.

    Pools ('0011' for linear, else '1111') and scale (0.25 for dvs, else 0.125) follow the form.
    """
    if heads < 1 or dim % heads:
        raise UsageError(
            f"dim {dim} cannot be split into {heads} heads",
            f"choose --dim as a multiple of the heads, for example --dim {_above(dim, heads)}",
        )
    return SpikformerConfig(
        image_size=tuple(image_size), in_channels=in_channels, classes=classes,
        time_steps=time_steps, stem=stem_widths(dim, stem), depth=depth, heads=heads, form=form,
        pool=pool if pool is not None else "0011" if form == "linear" else "1111",
        qk_dims=(dim // heads,) * depth, v_dims=(dim // heads,) * depth,
        hidden_dims=(dim * mlp_ratio,) * depth,
        attention_scale=attention_scale or (0.25 if form == "dvs" else 0.125),
    )


def _above(dim: int, heads: int) -> int:
    return -(-dim // max(heads, 1)) * max(heads, 1)
