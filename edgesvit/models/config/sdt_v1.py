"""Spike-Driven Transformer V1 as plain data: enough to build it, prune it, count it."""

import msgspec

from edgesvit.errors import UsageError


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

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_blocks(self)

    @property
    def dim(self) -> int:
        """The embedding width D, the channels of the residual stream."""
        return self.stem[3]

    @property
    def stage_sizes(self) -> tuple[tuple[int, int], ...]:
        """H, W at which each of the four stem convolutions runs, then H, W of the token grid."""
        sizes = [self.image_size]
        for pooled in self.pool:
            height, width = sizes[-1]
            sizes.append(((height + 1) // 2, (width + 1) // 2) if pooled == "1" else sizes[-1])
        return tuple(sizes)

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
    pool: str = "1111",
    events: bool = False,
) -> SdtV1Config:
    """An unpruned model; the stem widens D/8, D/4, D/2, D."""
    if dim % 8:
        raise UsageError(f"dim {dim} gives no whole stem widths D/8, D/4, D/2",
                         "choose dim as a multiple of 8")
    if heads < 1 or dim % heads:
        raise UsageError(f"dim {dim} cannot be split into {heads} heads",
                         "choose dim as a multiple of the heads")
    return SdtV1Config(
        image_size=tuple(image_size), in_channels=in_channels, classes=classes,
        time_steps=time_steps, stem=(dim // 8, dim // 4, dim // 2, dim), pool=pool, depth=depth,
        heads=heads, attention_dims=(dim,) * depth, hidden_dims=(dim * mlp_ratio,) * depth,
        events=events, mlp_shortcut=mlp_ratio == 1,
    )


def _check_numbers(config: SdtV1Config) -> None:
    if len(config.pool) != 4 or set(config.pool) - {"0", "1"}:
        raise UsageError(
            f"pool '{config.pool}' is not four characters of 0 and 1",
            "for example 0011: pool after the third and the fourth stem stage",
        )
    scalars = ("in_channels", "classes", "time_steps", "depth", "heads")
    for name, value in [
        *((name, getattr(config, name)) for name in scalars),
        *(("image_size", size) for size in config.image_size),
        *(("stem", width) for width in config.stem),
    ]:
        if value < 1:
            raise UsageError(f"{name} has the value {value}", "it must be 1 or more")


def _check_blocks(config: SdtV1Config) -> None:
    for name in ("attention_dims", "hidden_dims"):
        dims = getattr(config, name)
        if len(dims) != config.depth:
            raise UsageError(
                f"{name} has {len(dims)} entries for {config.depth} blocks", "give one per block"
            )
        if min(dims) < 1:
            raise UsageError(f"{name} has the value {min(dims)}", "a block keeps 1 or more")
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
