"""What a Meta-SpikeFormer (SDT-V2) is, as plain data."""

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.checks import Sizes, check_positive, check_time_steps
from edgesvit.models.config.stage_dims import StageDims, check_dims, dense_dims
from edgesvit.models.config.token_pruning import TokenPruning, settle_token_pruning

OFFICIAL_STRIDES = (2, 2, 2, 2, 1)
OFFICIAL_BLOCKS = (6, 2)
# Which layer halves a small image first: downsample2, because it makes the most expensive blocks
# cheaper and leaves the narrow ones before it, where pixels are lost for good, all positions.
HALVING_ORDER = (2, 1, 0, 3)
WIDEST_GRID = 8


class SdtV2Config(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="sdt_v2",
):
    """A Meta-SpikeFormer (Yao et al., ICLR 2024); the neuron's tau is always 2.

    `embed_dims` are the widths of the four stages, the first stage starts at half of its width.
    `strides`, 1 or 2, are those of the convolutions downsample1_1, 1_2, 2, 3 and 4. There are 1, 1
    and 2 convolution blocks, and `blocks` transformer blocks in stages 3 and 4; the authors fix
    both. `kd` adds the second classifier that distillation trains; the logits are then the mean.
    `pruned` are the widths of a model that lost channels; the other fields keep telling the shape
    it was pruned from, and None is that shape itself.
    """

    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int = 3
    classes: int
    time_steps: int
    embed_dims: tuple[int, int, int, int]
    heads: int = 8
    mlp_ratio: int = 4
    strides: tuple[int, int, int, int, int] = OFFICIAL_STRIDES
    blocks: tuple[int, int] = OFFICIAL_BLOCKS
    kd: bool = False
    threshold: float = 1.0
    attention_threshold: float = 0.5
    pruned: StageDims | None = None
    token_pruning: TokenPruning | None = None

    def __post_init__(self) -> None:
        check_time_steps(self.time_steps)
        check_skeleton(self)
        check_stages(self)
        settle_pruned(self)
        settle_token_pruning(self)

    @property
    def dense(self) -> StageDims:
        """The widths before pruning; the authors fix convolutions four times as wide."""
        return dense_dims(self, conv_ratio=4, value_width=1, inside="rep")

    @property
    def dims(self) -> StageDims:
        """The widths that the model has."""
        return self.pruned or self.dense

    @property
    def stage_sizes(self) -> Sizes:
        """H, W behind each of the five down-sampling convolutions."""
        return strided_sizes(self.image_size, self.strides)

    @property
    def tokens(self) -> int:
        """The number of tokens of the last stage."""
        height, width = self.stage_sizes[-1]
        return height * width


def sdt_v2(
    image_size: tuple[int, int],
    in_channels: int,
    classes: int,
    *,
    dim: int,
    depth: int,
    heads: int = 8,
    time_steps: int = 4,
    mlp_ratio: int = 4,
) -> SdtV2Config:
    """A Meta-SpikeFormer whose last stage is `dim` wide, with `depth` transformer blocks."""
    return SdtV2Config(
        image_size=tuple(image_size), in_channels=in_channels, classes=classes,
        time_steps=time_steps, embed_dims=stage_widths(dim, heads), heads=heads,
        mlp_ratio=mlp_ratio, strides=strides_for(image_size), blocks=split_blocks(depth))


def stage_widths(dim: int, heads: int) -> tuple[int, int, int, int]:
    """3/16, 3/8, 3/4 and all of D; the first is rounded down to an even width."""
    if dim < 16 or dim % 16:
        raise UsageError(f"dim {dim} gives no whole stage widths 3/8 D, 3/4 D, D",
                         "choose --dim as a multiple of 16")
    if heads < 1 or (dim // 4) % heads:
        raise UsageError(f"the stage widths {3 * dim // 4} and {dim} cannot be split into {heads} "
                         "heads", "choose --dim as a multiple of 4 times the heads")
    return (3 * dim // 32 * 2, 3 * dim // 8, 3 * dim // 4, dim)


def strides_for(image_size: tuple[int, int]) -> tuple[int, int, int, int, int]:
    """Halve the image until the token grid is at most 8 wide, at least once, at most four times."""
    strides, side = [1] * 5, max(image_size)
    for count, layer in enumerate(HALVING_ORDER):
        if count and side <= WIDEST_GRID:
            break
        strides[layer], side = 2, (side + 1) // 2
    return tuple(strides)


def split_blocks(depth: int) -> tuple[int, int]:
    """A quarter of the blocks in the last stage, as in the official 6 and 2, at least one."""
    if depth < 2:
        raise UsageError(f"depth {depth} leaves a stage without a transformer block",
                         "choose --depth 2 or more")
    last = max(depth // 4, 1)
    return (depth - last, last)


def strided_sizes(image_size: tuple[int, int], strides: tuple[int, ...]) -> Sizes:
    """H, W behind each convolution of these strides; odd sizes round up."""
    height, width = image_size
    sizes = []
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
        sizes.append((height, width))
    return tuple(sizes)


def check_stages(config: msgspec.Struct) -> None:
    """Five strides of 1 or 2, and two numbers of blocks, 1 or more."""
    if len(config.strides) != 5 or set(config.strides) - {1, 2}:
        raise UsageError(f"strides are {config.strides}, not five of 1 or 2",
                         f"the published models have {OFFICIAL_STRIDES}")
    if len(config.blocks) != 2 or min(config.blocks) < 1:
        raise UsageError(f"blocks are {config.blocks}, not two numbers of 1 or more",
                         f"the published models have {OFFICIAL_BLOCKS}")


def settle_pruned(config: msgspec.Struct) -> None:
    """Check `pruned`; the dense widths become None, so that equal shapes are equal."""
    if config.pruned is not None:
        check_dims(config.pruned, config.dense)
        if config.pruned == config.dense:
            msgspec.structs.force_setattr(config, "pruned", None)


def check_skeleton(config: msgspec.Struct, attention_stages: slice = slice(2, 4)) -> None:
    """UsageError if a size is below 1, or the stage widths cannot be halved or split into heads."""
    check_positive(config, ("in_channels", "classes", "heads", "mlp_ratio", "image_size",
                            "embed_dims"))
    if getattr(config, "pruned", None) is not None:
        return
    if config.embed_dims[0] % 2:
        raise UsageError(
            f"embed_dims begins with {config.embed_dims[0]}, which cannot be halved",
            "the first convolution has half the first stage's width: choose an even width",
        )
    for width in config.embed_dims[attention_stages]:
        if width % config.heads:
            raise UsageError(
                f"the stage width {width} cannot be split into {config.heads} heads",
                f"choose a multiple of {config.heads}, "
                f"for example {-(-width // config.heads) * config.heads}",
            )
