"""QKFormer's channel groups: patch embeddings, both kinds of attention, MLPs, three streams."""

from collections.abc import Mapping

from edgesvit.compress.groups.group import Group, Part, resized
from edgesvit.models.config import QKFormerConfig

FIELDS = {"stem": ("widths", 0), "stream": ("widths", 1), "qk": ("qk_dims", 0), "v": ("v_dims", 0),
          "hidden": ("hidden_dims", 0), "embed": ("embed_dims", 0)}


def groups(config: QKFormerConfig) -> list[Group]:
    """`stem.0`, `embed.{i}` (between an embedding's two convolutions), `qk.{i}`, `v.{i}`,
    `hidden.{i}`, `stream.{0,1,2}`; blocks are counted over all three stages.
    """
    first = "patch_embed1"
    found = [Group("stem.0", config.widths[0], 1, (_part(f"{first}.proj"),),
                   (f"{first}.proj1_conv", f"{first}.proj_res_conv"))]
    found += [Group(f"embed.{i}", size, 1, (_part(f"{at}.{names[0]}"),), (f"{at}.{names[1]}_conv",))
              for i, (size, (at, names)) in enumerate(_embeds(config))]
    for index, (at, stage) in enumerate(_blocks(config)):
        found += _block_groups(config, index, at, stage)
    return found + [_stream(config, stage) for stage in (1, 2, 3)]


def smaller(config: QKFormerConfig, sizes: Mapping[str, int]) -> QKFormerConfig:
    """The configuration with groups of these sizes."""
    return resized(config, FIELDS, sizes, embed_dims=[size for size, _ in _embeds(config)])


def _part(name: str) -> Part:
    return Part(f"{name}_conv", (f"{name}_bn",))


def _embeds(config: QKFormerConfig) -> list[tuple[int, tuple[str, tuple[str, str]]]]:
    """The width inside each patch embedding that has an inside, its path and two convolutions."""
    large = config.form == "imagenet"
    all_three = (("patch_embed1", ("proj1", "proj2")), ("patch_embed2", ("proj3", "proj4")),
                 ("patch_embed3", ("proj3", "proj4")))
    return list(zip(config.embed_inner, all_three, strict=True))[0 if large else 1:]


def _blocks(config: QKFormerConfig) -> list[tuple[str, int]]:
    """The path and the stage of every block."""
    return [(f"stage{stage}.{i}", stage) for stage in (1, 2, 3)
            for i in range(config.depths[stage - 1])]


def _attention(config: QKFormerConfig, at: str, stage: int) -> str:
    large = config.form == "imagenet"
    return f"{at}.{'tssa' if stage < 3 else 'attn' if large else 'ssa'}"


def _mlp(config: QKFormerConfig, at: str, layer: int) -> Part:
    return _part(f"{at}.mlp.{'fc' if config.form == 'imagenet' else 'mlp'}{layer}")


def _block_groups(config: QKFormerConfig, index: int, at: str, stage: int) -> list[Group]:
    attention = _attention(config, at, stage)
    q, k, v = (_part(f"{attention}.{name}") for name in "qkv")
    proj = f"{attention}.proj_conv"
    # Of token attention the keys pass on to the projection; of self-attention q and k meet in a
    # product and no layer consumes them.
    found = [Group(f"qk.{index}", config.qk_dims[index], config.heads, (q, k),
                   (proj,) if stage < 3 else ())]
    if stage == 3:
        number = index - sum(config.depths[:2])
        found.append(Group(f"v.{number}", config.v_dims[number], config.heads, (v,), (proj,)))
    found.append(Group(f"hidden.{index}", config.hidden_dims[index], 1, (_mlp(config, at, 1),),
                       (_mlp(config, at, 2).layer,)))
    return found


def _stream(config: QKFormerConfig, stage: int) -> Group:
    at = f"patch_embed{stage}"
    last = "proj4" if stage > 1 else "proj2" if config.form == "imagenet" else "proj1"
    writers, readers = [_part(f"{at}.{last}"), _part(f"{at}.proj_res")], []
    for block, its_stage in _blocks(config):
        if its_stage == stage:
            attention = _attention(config, block, stage)
            writers += [_part(f"{attention}.proj"), _mlp(config, block, 2)]
            readers += [f"{attention}.{name}_conv" for name in ("qk" if stage < 3 else "qkv")]
            readers.append(_mlp(config, block, 1).layer)
    after = f"patch_embed{stage + 1}"
    readers += [f"{after}.proj3_conv", f"{after}.proj_res_conv"] if stage < 3 else ["head"]
    return Group(f"stream.{stage - 1}", config.widths[stage], 1, tuple(writers), tuple(readers))
