"""What a Meta-SpikeFormer (SDT-V2) is, as plain data."""

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.checks import check_positive, check_time_steps


class SdtV2Config(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="sdt_v2",
):
    """A Meta-SpikeFormer (Yao et al., ICLR 2024); the neuron's tau is always 2.

    `embed_dims` are the widths of the four stages, the first stage starts at half of its width.
    Blocks are as the authors fix them: 1, 1 and 2 convolution blocks, then 6 and 2 transformer
    blocks. `kd` adds the second classifier that distillation trains; the logits are then the mean.
    """

    image_size: tuple[int, int]  # H, W in pixels
    in_channels: int = 3
    classes: int
    time_steps: int
    embed_dims: tuple[int, int, int, int]
    heads: int = 8
    mlp_ratio: int = 4
    kd: bool = False
    threshold: float = 1.0
    attention_threshold: float = 0.5

    def __post_init__(self) -> None:
        check_time_steps(self.time_steps)
        check_skeleton(self)


def check_skeleton(config: msgspec.Struct, attention_stages: slice = slice(2, 4)) -> None:
    """UsageError if a size is below 1, or the stage widths cannot be halved or split into heads."""
    check_positive(config, ("in_channels", "classes", "heads", "mlp_ratio", "image_size",
                            "embed_dims"))
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
