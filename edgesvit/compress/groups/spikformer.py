"""Spikformer's channel groups: stem, and per block q and k, v, MLP; the one residual stream."""

from collections.abc import Mapping

from edgesvit.compress.groups.group import Group, Part, resized
from edgesvit.models.config import SpikformerConfig

FIELDS = {"stem": ("stem", 0), "stream": ("stem", 3), "qk": ("qk_dims", 0), "v": ("v_dims", 0),
          "hidden": ("hidden_dims", 0)}


def groups(config: SpikformerConfig) -> list[Group]:
    """`stem.{0,1,2}`, `qk.{i}`, `v.{i}`, `hidden.{i}`, `stream.0`."""
    found = [stem_group(config.stem[stage], stage) for stage in range(3)]
    for block in range(config.depth):
        found += _block_groups(config, block)
    return [*found, _stream(config)]


def smaller(config: SpikformerConfig, sizes: Mapping[str, int]) -> SpikformerConfig:
    """The configuration with groups of these sizes."""
    return resized(config, FIELDS, sizes)


def stem_group(size: int, stage: int) -> Group:
    """One of the first three convolutions; SDT-V1 has the same."""
    number = str(stage) if stage else ""
    producer = Part(f"patch_embed.proj_conv{number}", (f"patch_embed.proj_bn{number}",))
    return Group(f"stem.{stage}", size, 1, (producer,), (f"patch_embed.proj_conv{stage + 1}",))


def _layer(config: SpikformerConfig, block: int, name: str) -> Part:
    at = f"block.{block}.{'mlp' if name.startswith('fc') else 'attn'}.{name}"
    return Part(f"{at}_{config.point_layer}", (f"{at}_bn",))


def _block_groups(config: SpikformerConfig, block: int) -> list[Group]:
    q, k, v, proj, fc1, fc2 = (_layer(config, block, name)
                               for name in ("q", "k", "v", "proj", "fc1", "fc2"))
    # q and k meet in a product over the head's channels: no layer consumes them.
    return [Group(f"qk.{block}", config.qk_dims[block], config.heads, (q, k), ()),
            Group(f"v.{block}", config.v_dims[block], config.heads, (v,), (proj.layer,)),
            Group(f"hidden.{block}", config.hidden_dims[block], 1, (fc1,), (fc2.layer,))]


def _stream(config: SpikformerConfig) -> Group:
    writers = [Part("patch_embed.proj_conv3", ("patch_embed.proj_bn3",)),
               Part("patch_embed.rpe_conv", ("patch_embed.rpe_bn",))]
    readers = ["patch_embed.rpe_conv"]
    for block in range(config.depth):
        writers += [_layer(config, block, name) for name in ("proj", "fc2")]
        readers += [_layer(config, block, name).layer for name in ("q", "k", "v", "fc1")]
    return Group("stream.0", config.dim, 1, tuple(writers), (*readers, "head"))
