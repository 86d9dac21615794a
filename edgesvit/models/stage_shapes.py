"""Reading the widths of an SDT-V2 or V3, dense or pruned, off its tensor shapes; needs no torch."""

from edgesvit.errors import UsageError
from edgesvit.models.config.stage_dims import StageDims
from edgesvit.models.recognise import Shapes, shape_of

DOWNSAMPLES = ("downsample1_1", "downsample1_2", "downsample2", "downsample3", "downsample4")
CONV_BLOCKS = ("ConvBlock1_1.0", "ConvBlock1_2.0", "ConvBlock2_1.0", "ConvBlock2_2.0")


def block_names(blocks: tuple[int, int]) -> list[str]:
    """The module paths of the transformer blocks of stages 3 and 4."""
    return [f"block{stage}.{index}" for stage, count in zip((3, 4), blocks, strict=True)
            for index in range(count)]


def dims_of(shapes: Shapes, blocks: tuple[int, int], heads: int, inside: str) -> StageDims:
    """All widths; `inside` is 'rep' for SDT-V2, 'mix' for V3 (as in `dense_dims`).

    UsageError when a tensor is missing or the heads cannot share q's or v's rows.
    """
    names = block_names(blocks)
    point, last = ("", "0.body.2.1") if inside == "rep" else (".0", "0")

    def rows(layer: str, rank: int = 4) -> int:
        return shape_of(shapes, f"{layer}.weight", rank)[0]

    def per_head(letter: str) -> tuple[int, ...]:
        return tuple(_share(rows(f"{at}.attn.{letter}_conv.{last}"), heads,
                            f"{at}.attn.{letter}_conv") for at in names)

    if inside == "rep":
        more = {f"rep_{name}": tuple(rows(f"{at}.attn.{name}_conv.0.body.0") for at in names)
                for name in ("q", "k", "v", "proj")}
    else:
        more = {"mix": tuple(rows(f"{at}.conv.pwconv1.0") for at in names)}
    return StageDims(
        streams=tuple(rows(f"{at}.encode_conv") for at in DOWNSAMPLES),
        sep=tuple(rows(f"{at}.Conv.pwconv1{point}") for at in CONV_BLOCKS),
        conv=tuple(rows(f"{at}.conv1") for at in CONV_BLOCKS),
        qk=per_head("q"), v=per_head("v"),
        hidden=tuple(rows(f"{at}.mlp.fc1_conv", 3) for at in names), **more)


def _share(rows: int, heads: int, layer: str) -> int:
    if heads < 1 or rows % heads:
        raise UsageError(f"{layer} has {rows} rows, which {heads} heads cannot share",
                         "give num_heads, the number the model was trained with")
    return rows // heads
