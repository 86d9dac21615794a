"""What a QKFormer is, as plain data."""

from typing import Literal

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.checks import check_blocks, check_positive, check_time_steps
from edgesvit.models.config.token_pruning import TokenPruning, settle_token_pruning


class QKFormerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True,
                     tag_field="family", tag="qkformer"):
    """A QKFormer (Zhou et al., NeurIPS 2024), dense or pruned; the neuron's tau is always 2.

    `form` says which of the authors' two codes: 'imagenet' pools in every patch embedding (/4, /2,
    /2), 'cifar' keeps the image size in the first (/1, /2, /2). `widths` are the first
    convolution's and the three stages'. Stages 1 and 2 hold token attention, stage 3
    self-attention. `qk_dims` (per head) and `hidden_dims` (MLP) have one entry per block over all
    three stages, `v_dims` (per head) one per block of stage 3. `embed_dims` are the widths between
    the two convolutions of the patch embeddings (the CIFAR form's first has none); empty: as wide
    as their stage. A pruned model has smaller entries.

    `proj_lif_axis`: the released code lets the last neuron of the self-attention step through time
    and batch as one axis, so an image's membrane leaks into the next image. 'batch_time' does the
    same, and the published accuracies need it; 'time' is the neuron as intended. With one image at
    a time, as on a board, both are equal.
    """

    form: Literal["imagenet", "cifar"]
    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int
    classes: int
    time_steps: int
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int]
    heads: int
    qk_dims: tuple[int, ...]
    v_dims: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    proj_lif_axis: Literal["batch_time", "time"] = "time"
    attention_scale: float = 0.125
    attention_threshold: float = 0.5
    threshold: float = 1.0
    embed_dims: tuple[int, ...] = ()
    token_pruning: TokenPruning | None = None

    def __post_init__(self) -> None:
        _check_modes(self)
        check_time_steps(self.time_steps)
        check_positive(self, ("in_channels", "classes", "heads", "image_size", "widths", "depths"))
        check_blocks(self, ("qk_dims", "hidden_dims"), sum(self.depths))
        check_blocks(self, ("v_dims",), self.depths[2])
        dense = self.widths[1 if self.form == "imagenet" else 2:]
        if self.embed_dims:
            check_blocks(self, ("embed_dims",), len(dense))
        if self.embed_dims == dense:  # so that equal shapes are equal
            msgspec.structs.force_setattr(self, "embed_dims", ())
        settle_token_pruning(self)

    @property
    def embed_inner(self) -> tuple[int, int, int]:
        """The widths inside the three patch embeddings; the CIFAR form's first has no inside."""
        dense = self.widths[1:]
        return dense[:3 - len(self.embed_dims)] + self.embed_dims

    @property
    def dim(self) -> int:
        """The last stage's width D, which the classifier reads."""
        return self.widths[3]

    @property
    def stage_sizes(self) -> tuple[tuple[int, int], ...]:
        """H, W of the token grid of each of the three stages."""
        pools = (2, 1, 1) if self.form == "imagenet" else (0, 1, 1)
        height, width = self.image_size
        sizes = []
        for count in pools:
            for _ in range(count):
                height, width = (height + 1) // 2, (width + 1) // 2
            sizes.append((height, width))
        return tuple(sizes)

    @property
    def tokens(self) -> int:
        """The number of tokens of the last stage."""
        height, width = self.stage_sizes[-1]
        return height * width


def qkformer(
    image_size: tuple[int, int],
    in_channels: int,
    classes: int,
    *,
    dim: int,
    depth: int,
    heads: int,
    form: Literal["imagenet", "cifar"],
    time_steps: int = 4,
    mlp_ratio: int = 4,
    proj_lif_axis: Literal["batch_time", "time"] = "time",
) -> QKFormerConfig:
    """An unpruned QKFormer: widths D/8, D/4, D/2, D; depths 1, 2, rest (CIFAR: 1, 1, rest)."""
    first = (1, 2) if form == "imagenet" else (1, 1)
    if depth <= sum(first):
        raise UsageError(f"depth {depth} leaves no self-attention in a QKFormer's {form} form",
                         f"choose a depth of {sum(first) + 1} or more")
    if heads < 1 or dim % 8 or (dim // 4) % heads:
        raise UsageError(
            f"dim {dim} gives no widths D/8, D/4, D/2, D that {heads} heads can share",
            "choose --dim as a multiple of 8 and of 4 times the heads")
    widths = (dim // 8, dim // 4, dim // 2, dim)
    depths = (*first, depth - sum(first))
    per_block = [width for width, count in zip(widths[1:], depths, strict=True)
                 for _ in range(count)]
    return QKFormerConfig(
        form=form, image_size=tuple(image_size), in_channels=in_channels, classes=classes,
        time_steps=time_steps, widths=widths, depths=depths, heads=heads,
        qk_dims=tuple(width // heads for width in per_block),
        v_dims=(dim // heads,) * depths[2],
        hidden_dims=tuple(width * mlp_ratio for width in per_block),
        proj_lif_axis=proj_lif_axis)


def _check_modes(config: QKFormerConfig) -> None:
    for name, known in (("form", ("imagenet", "cifar")), ("proj_lif_axis", ("batch_time", "time"))):
        if getattr(config, name) not in known:
            raise UsageError(f"{name} is {getattr(config, name)!r}", f"choose {' or '.join(known)}")
