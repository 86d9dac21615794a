"""SDT-V1's channel groups: stem, and per block q, k and v together, MLP; the residual stream."""

from collections.abc import Mapping

from edgesvit.compress.groups.group import Group, Part, resized
from edgesvit.compress.groups.spikformer import stem_group
from edgesvit.models.config import SdtV1Config

FIELDS = {"stem": ("stem", 0), "stream": ("stem", 3), "attention": ("attention_dims", 0),
          "hidden": ("hidden_dims", 0)}


def groups(config: SdtV1Config) -> list[Group]:
    """`stem.{0,1,2}`, `attention.{i}`, `hidden.{i}`, `stream.0`.

    With event input the attention also pools over neighbouring channels, and with `mlp_shortcut`
    the stream passes through the MLP's hidden layer: such channels are no group.
    """
    found = [stem_group(config.stem[stage], stage) for stage in range(3)]
    for block in range(config.depth):
        if not config.events:
            found.append(_attention(config, block))
        if not config.mlp_shortcut:
            fc1, fc2 = _layer(block, "fc1"), _layer(block, "fc2")
            found.append(Group(f"hidden.{block}", config.hidden_dims[block], 1, (fc1,),
                               (fc2.layer,)))
    return found if config.mlp_shortcut else [*found, _stream(config)]


def smaller(config: SdtV1Config, sizes: Mapping[str, int]) -> SdtV1Config:
    """The configuration with groups of these sizes."""
    return resized(config, FIELDS, sizes)


def _layer(block: int, name: str) -> Part:
    at = f"block.{block}.{'mlp' if name.startswith('fc') else 'attn'}.{name}"
    return Part(f"{at}_conv", (f"{at}_bn",))


def _attention(config: SdtV1Config, block: int) -> Group:
    """Attention is channel by channel, so the three projections share their index."""
    return Group(f"attention.{block}", config.attention_dims[block], 1,
                 tuple(_layer(block, name) for name in "qkv"), (_layer(block, "proj").layer,))


def _stream(config: SdtV1Config) -> Group:
    writers = [Part("patch_embed.proj_conv3", ("patch_embed.proj_bn3",)),
               Part("patch_embed.rpe_conv", ("patch_embed.rpe_bn",))]
    readers = ["patch_embed.rpe_conv"]
    for block in range(config.depth):
        writers += [_layer(block, name) for name in ("proj", "fc2")]
        readers += [_layer(block, name).layer for name in ("q", "k", "v", "fc1")]
    return Group("stream.0", config.dim, 1, tuple(writers), (*readers, "head"))
