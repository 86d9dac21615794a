"""Spike-Driven Transformer V1 as plain data: enough to build it, prune it, count it."""

from collections.abc import Sequence

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.checks import (
    check_blocks,
    check_positive,
    check_stem_pool,
    stem_sizes,
    stem_widths,
)
from edgesvit.models.config.token_pruning import TokenPruning, settle_token_pruning


class SdtV1Config(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True,
    tag_field="family", tag="sdt_v1",
):
    """A Spike-Driven Transformer (Yao et al., NeurIPS 2023), dense or pruned; tau is always 2.

    `stem` are the widths of the four convolutions, the last one is the stream's width D. A '1' in
    `pool` puts a max-pool (3x3, stride 2, padding 1) behind that stage: '1111' is the ImageNet
    form, '0011' the CIFAR form, '0111' the gesture form. `attention_dims` are the channels of q, k
    and v and `hidden_dims` the MLP's width, one entry per block. `events` is the DVS mode, whose
    attention also pools over neighbours; only there do the heads change the result.
    `mlp_shortcut` adds the stream to the MLP's hidden layer (models of MLP ratio 1).
    """

    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int
    classes: int
    time_steps: int  # of a still image; event frames bring their own
    stem: tuple[int, int, int, int]
    pool: str
    depth: int
    heads: int
    attention_dims: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    events: bool = False
    mlp_shortcut: bool = False
    attention_threshold: float = 0.5
    threshold: float = 1.0
    token_pruning: TokenPruning | None = None

    def __post_init__(self) -> None:
        check_stem_pool(self.pool)
        check_positive(self, ("in_channels", "classes", "time_steps", "depth", "heads",
                              "image_size", "stem"))
        check_blocks(self, ("attention_dims", "hidden_dims"), self.depth)
        _check_modes(self)
        settle_token_pruning(self)

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


def sdt_v1(
    image_size: tuple[int, int],
    in_channels: int,
    classes: int,
    *,
    dim: int,
    depth: int,
    heads: int = 8,
    time_steps: int = 4,
    mlp_ratio: int = 4,
    stem: Sequence[int] | None = None,
    pool: str = "1111",
    events: bool = False,
) -> SdtV1Config:
    """An unpruned model; the stem widens D/8, D/4, D/2, D unless `stem` gives its widths."""
    if heads < 1 or dim % heads:
        raise UsageError(f"dim {dim} cannot be split into {heads} heads",
                         "choose dim as a multiple of the heads")
    return SdtV1Config(
        image_size=tuple(image_size), in_channels=in_channels, classes=classes,
        time_steps=time_steps, stem=stem_widths(dim, stem), pool=pool, depth=depth,
        heads=heads, attention_dims=(dim,) * depth, hidden_dims=(dim * mlp_ratio,) * depth,
        events=events, mlp_shortcut=mlp_ratio == 1,
    )


def _check_modes(config: SdtV1Config) -> None:
    if config.events and any(width % config.heads for width in config.attention_dims):
        raise UsageError(
            f"attention_dims {config.attention_dims} do not split into {config.heads} heads",
            "with event input neighbouring channels of a head are pooled: keep whole heads",
        )
    if config.mlp_shortcut and set(config.hidden_dims) != {config.dim}:
        raise UsageError(
            f"mlp_shortcut adds a stream of {config.dim} channels to hidden_dims "
            f"{config.hidden_dims}", f"it needs hidden_dims of {config.dim}",
        )
