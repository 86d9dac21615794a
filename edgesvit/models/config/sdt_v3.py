"""What the two SDT-V3 models are, as plain data: Model_Base and Model_Large."""

from math import sqrt
from typing import Literal

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.checks import Sizes
from edgesvit.models.config.sdt_v2 import (
    OFFICIAL_BLOCKS,
    OFFICIAL_STRIDES,
    check_skeleton,
    check_stages,
    settle_pruned,
    split_blocks,
    stage_widths,
    strided_sizes,
    strides_for,
)
from edgesvit.models.config.stage_dims import StageDims, dense_dims
from edgesvit.models.config.token_pruning import TokenPruning, settle_token_pruning

MAX_LEVELS = 255  # a level is one byte


class SdtV3Config(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="sdt_v3",
):
    """SDT-V3 Model_Base (E-SpikeFormer, Yao et al., TPAMI 2025), T = 1.

    `levels` is D: every neuron emits 0..D. The papers' "1x4" and "1x8" are D = 4 and D = 8; the
    tensors of a checkpoint do not tell which, and the wrong one gives wrong logits. `strides`,
    `blocks` and `pruned` are those of SdtV2Config.
    """

    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int = 3
    classes: int
    embed_dims: tuple[int, int, int, int]
    heads: int = 8
    mlp_ratio: int = 4
    levels: int = 4
    strides: tuple[int, int, int, int, int] = OFFICIAL_STRIDES
    blocks: tuple[int, int] = OFFICIAL_BLOCKS
    pruned: StageDims | None = None
    token_pruning: TokenPruning | None = None

    def __post_init__(self) -> None:
        _check_levels(self.levels)
        check_skeleton(self)
        check_stages(self)
        settle_pruned(self)
        settle_token_pruning(self)

    @property
    def dense(self) -> StageDims:
        """The widths before pruning; v is four times as wide as q and k."""
        return dense_dims(self, conv_ratio=self.mlp_ratio, value_width=4, inside="mix")

    @property
    def dims(self) -> StageDims:
        """The widths that the model has."""
        return self.pruned or self.dense

    @property
    def attention_scales(self) -> tuple[float, float]:
        """2 / sqrt(C / h) of stages 3 and 4, C being the unpruned model's width."""
        third, fourth = (max(width // self.heads, 1) for width in self.embed_dims[2:])
        return 2 / sqrt(third), 2 / sqrt(fourth)

    @property
    def stage_sizes(self) -> Sizes:
        """H, W behind each of the five down-sampling convolutions."""
        return strided_sizes(self.image_size, self.strides)

    @property
    def tokens(self) -> int:
        """The number of tokens of the last stage."""
        height, width = self.stage_sizes[-1]
        return height * width


def sdt_v3(
    image_size: tuple[int, int],
    in_channels: int,
    classes: int,
    *,
    dim: int,
    depth: int,
    heads: int = 8,
    mlp_ratio: int = 4,
    levels: int = 4,
) -> SdtV3Config:
    """A Model_Base whose last stage is `dim` wide, with `depth` transformer blocks."""
    return SdtV3Config(
        image_size=tuple(image_size), in_channels=in_channels, classes=classes,
        embed_dims=stage_widths(dim, heads), heads=heads, mlp_ratio=mlp_ratio, levels=levels,
        strides=strides_for(image_size), blocks=split_blocks(depth))


class SdtV3LargeConfig(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="sdt_v3_large",
):
    """SDT-V3 Model_Large (Yao et al., TPAMI 2025), T = 1, pre-trained as a masked autoencoder.

    `choice` "base" (the 83M model) adds a point-wise branch to every block that "large" (171M)
    lacks. `sr_ratio` widens v and the input of the projection. `kd` adds the second classifier.
    """

    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int = 3
    classes: int
    embed_dims: tuple[int, int, int]
    depth: int = 12
    heads: int = 8
    mlp_ratio: int = 4
    levels: int = 4
    choice: Literal["base", "large"] = "base"
    sr_ratio: int = 1
    layer_scale: float = 1e-6  # initial value; the checkpoint holds the trained ones
    kd: bool = True

    def __post_init__(self) -> None:
        _check_levels(self.levels)
        if self.choice not in ("base", "large"):
            raise UsageError(f"choice is {self.choice!r}", "choose base or large")
        for name in ("depth", "sr_ratio"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} has the value {getattr(self, name)}",
                                 "it must be 1 or more")
        check_skeleton(self, attention_stages=slice(2, 3))


def _check_levels(levels: int) -> None:
    if not 1 <= levels <= MAX_LEVELS:
        raise UsageError(f"levels (D) is {levels}; a neuron's level is one byte",
                         "the published models use 4 or 8")
