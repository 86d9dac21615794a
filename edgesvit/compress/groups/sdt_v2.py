"""SDT-V2's channel groups: convolution blocks, RepConvs, attention, MLPs, streams."""

from edgesvit.compress.groups import stages
from edgesvit.compress.groups.group import Group, Part
from edgesvit.models.config import SdtV2Config

smaller = stages.smaller


def _rows(name: str) -> Part:
    """The last point-wise layer of a RepConv, with the batch norms inside and behind it."""
    conv = f"attn.{name}_conv"
    return Part(f"{conv}.0.body.2.1", (f"{conv}.0.body.2.2", f"{conv}.1"))


def _first(name: str) -> str:
    return f"attn.{name}_conv.0.body.0"


ENDS = stages.Ends(
    conv_writers=(Part("Conv.pwconv2", ("Conv.bn2",)), Part("conv2", ("bn2",))),
    conv_readers=("Conv.pwconv1", "conv1"),
    block_writers=(_rows("proj"), Part("mlp.fc2_conv", ("mlp.fc2_bn",))),
    block_readers=(_first("q"), _first("k"), _first("v"), "mlp.fc1_conv"))


def groups(config: SdtV2Config) -> list[Group]:
    """`sep.{i}`, `conv.{i}`, `qk.{i}`, `v.{i}`, `rep_{q,k,v,proj}.{i}`, `hidden.{i}`, `stream.{i}`.

    Inside a RepConv everything is linear: its channels carry numbers, not spikes.
    """
    found = [_sep(at, i, config.dims.sep[i]) for i, at in enumerate(stages.CONV_BLOCKS)]
    found += stages.conv_groups(config)
    for i, at in enumerate(stages.blocks(config)):
        found += _attention(config, i, at)
    return found + stages.hidden_groups(config) + stages.stream_groups(config, ENDS)


def _sep(at: str, index: int, size: int) -> Group:
    conv = f"{at}.Conv"
    return Group(f"sep.{index}", size, 1, (Part(f"{conv}.pwconv1", (f"{conv}.bn1",)),),
                 (f"{conv}.pwconv2",), (Part(f"{conv}.dwconv"),))


def _attention(config: SdtV2Config, index: int, at: str) -> list[Group]:
    q, k, v = (stages.inside(at, _rows(name)) for name in "qkv")
    # q and k meet in a product over the head's channels: no layer consumes them.
    found = [Group(f"qk.{index}", config.dims.qk[index], config.heads, (q, k), ()),
             Group(f"v.{index}", config.dims.v[index], config.heads, (v,),
                   (f"{at}.{_first('proj')}",))]
    for name in ("q", "k", "v", "proj"):
        body = f"{at}.attn.{name}_conv.0.body"
        found.append(Group(
            f"rep_{name}.{index}", getattr(config.dims, f"rep_{name}")[index], 1,
            (Part(f"{body}.0", (f"{body}.1.bn",)),), (f"{body}.2.1",), (Part(f"{body}.2.0"),)))
    return found
