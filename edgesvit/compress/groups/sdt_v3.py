"""SDT-V3's channel groups: convolution blocks, attention with its wide v, MLPs, streams."""

from edgesvit.compress.groups import stages
from edgesvit.compress.groups.group import Group, Part
from edgesvit.models.config import SdtV3Config

smaller = stages.smaller


def _part(name: str) -> Part:
    """A convolution and the batch norm in the same Sequential."""
    return Part(f"{name}.0", (f"{name}.1",))


ENDS = stages.Ends(
    conv_writers=(_part("Conv.pwconv2"), Part("conv2", ("bn2",))),
    conv_readers=("Conv.pwconv1.0", "conv1"),
    block_writers=(_part("conv.pwconv2"), _part("attn.proj_conv"),
                   Part("mlp.fc2_conv", ("mlp.fc2_bn",))),
    block_readers=("conv.pwconv1.0", "attn.q_conv.0", "attn.k_conv.0", "attn.v_conv.0",
                   "mlp.fc1_conv"))


def groups(config: SdtV3Config) -> list[Group]:
    """`sep.{i}`, `conv.{i}`, `mix.{i}` (a block's SepConv), `qk.{i}`, `v.{i}`, `hidden.{i}`,
    `stream.{i}`.
    """
    dims = config.dims
    found = [_sep(f"sep.{i}", f"{at}.Conv", dims.sep[i]) for i, at in enumerate(stages.CONV_BLOCKS)]
    found += stages.conv_groups(config)
    for i, at in enumerate(stages.blocks(config)):
        q, k, v = (_part(f"{at}.attn.{name}_conv") for name in "qkv")
        found += [_sep(f"mix.{i}", f"{at}.conv", dims.mix[i]),
                  Group(f"qk.{i}", dims.qk[i], config.heads, (q, k), ()),
                  Group(f"v.{i}", dims.v[i], config.heads, (v,), (f"{at}.attn.proj_conv.0",))]
    return found + stages.hidden_groups(config) + stages.stream_groups(config, ENDS)


def _sep(name: str, at: str, size: int) -> Group:
    return Group(name, size, 1, (_part(f"{at}.pwconv1"),), (f"{at}.pwconv2.0",),
                 (_part(f"{at}.dwconv"),))
