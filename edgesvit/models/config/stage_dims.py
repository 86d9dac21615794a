"""The channels inside the stages of an SDT-V2 or SDT-V3: what a pruned model has fewer of."""

import msgspec

from edgesvit.errors import UsageError


class StageDims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Widths of the residual streams and of every hidden layer between them.

    `streams` are the five of downsample1_1, 1_2, 2, 3 and 4. The four convolution blocks have one
    entry each in `sep` (separable convolution) and `conv` (3x3 convolutions); the transformer
    blocks of both stages one each in `qk` and `v` (per head) and `hidden` (MLP), SDT-V2's also in
    `rep_*` (inside the RepConvs), SDT-V3's in `mix` (the separable convolution before attention).
    """

    streams: tuple[int, ...]
    sep: tuple[int, ...]
    conv: tuple[int, ...]
    qk: tuple[int, ...]
    v: tuple[int, ...]
    hidden: tuple[int, ...]
    rep_q: tuple[int, ...] = ()
    rep_k: tuple[int, ...] = ()
    rep_v: tuple[int, ...] = ()
    rep_proj: tuple[int, ...] = ()
    mix: tuple[int, ...] = ()


REP = ("rep_q", "rep_k", "rep_v", "rep_proj")


def dense_dims(config: msgspec.Struct, *, conv_ratio: int, value_width: int, inside: str
               ) -> StageDims:
    """What `embed_dims`, `heads` and `mlp_ratio` say; `inside` is 'rep' (V2) or 'mix' (V3)."""
    half = config.embed_dims[0] // 2
    streams = (half, *config.embed_dims)
    blocks = block_widths(streams, config.blocks)
    wide = [streams[i] for i in (0, 1, 2, 2)]
    per_head = tuple(width // config.heads for width in blocks)
    more = ({name: blocks for name in REP} if inside == "rep"
            else {"mix": tuple(2 * width for width in blocks)})
    return StageDims(
        streams=streams, sep=tuple(2 * width for width in wide),
        conv=tuple(conv_ratio * width for width in wide), qk=per_head,
        v=tuple(value_width * width for width in per_head),
        hidden=tuple(config.mlp_ratio * width for width in blocks), **more)


def block_widths(streams: tuple[int, ...], blocks: tuple[int, int]) -> tuple[int, ...]:
    """The stream that each transformer block adds to."""
    return (streams[3],) * blocks[0] + (streams[4],) * blocks[1]


def check_dims(given: StageDims, dense: StageDims) -> None:
    """UsageError unless every field has the dense model's number of entries, all 1 or more."""
    for name in StageDims.__struct_fields__:
        values, wanted = getattr(given, name), len(getattr(dense, name))
        if len(values) != wanted:
            raise UsageError(f"{name} has {len(values)} entries, not {wanted}",
                             "give one per stage, convolution block or transformer block")
        if values and min(values) < 1:
            raise UsageError(f"{name} has the value {min(values)}", "it must be 1 or more")
