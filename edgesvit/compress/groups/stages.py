"""The channel groups that SDT-V2 and SDT-V3 share: convolution blocks, MLPs, five streams."""

from collections.abc import Mapping

import msgspec

from edgesvit.compress.groups.group import Group, Part, resized
from edgesvit.models.config import SdtV2Config, SdtV3Config

Config = SdtV2Config | SdtV3Config
# The convolution blocks, by the stream that each adds to.
CONV_BLOCKS = {"ConvBlock1_1.0": 0, "ConvBlock1_2.0": 1, "ConvBlock2_1.0": 2, "ConvBlock2_2.0": 2}
DOWNSAMPLES = ("downsample1_1", "downsample1_2", "downsample2", "downsample3", "downsample4")


class Ends(msgspec.Struct, frozen=True):
    """How a family's branches end on a stream and begin from it; names inside a block."""

    conv_writers: tuple[Part, ...]
    conv_readers: tuple[str, ...]
    block_writers: tuple[Part, ...]
    block_readers: tuple[str, ...]


def blocks(config: Config) -> list[str]:
    """The module paths of all transformer blocks, in order."""
    return [f"block{stage}.{index}" for stage, count in zip((3, 4), config.blocks, strict=True)
            for index in range(count)]


def inside(at: str, part: Part) -> Part:
    """The same part of the block at `at`."""
    return Part(f"{at}.{part.layer}", tuple(f"{at}.{bn}" for bn in part.bns))


def conv_groups(config: Config) -> list[Group]:
    """`conv.{i}`: between the two 3x3 convolutions of a block."""
    return [Group(f"conv.{i}", size, 1, (inside(at, Part("conv1", ("bn1",))),), (f"{at}.conv2",))
            for i, (at, size) in enumerate(zip(CONV_BLOCKS, config.dims.conv, strict=True))]


def hidden_groups(config: Config) -> list[Group]:
    """`hidden.{i}`: inside the MLPs."""
    return [Group(f"hidden.{i}", size, 1, (inside(at, Part("mlp.fc1_conv", ("mlp.fc1_bn",))),),
                  (f"{at}.mlp.fc2_conv",))
            for i, (at, size) in enumerate(zip(blocks(config), config.dims.hidden, strict=True))]


def stream_groups(config: Config, ends: Ends) -> list[Group]:
    """`stream.{0..4}`: what a down-sampling and all branches of its stage write, and all read."""
    members: list[list[tuple[str, tuple[Part, ...], tuple[str, ...]]]] = [[] for _ in DOWNSAMPLES]
    for at, stream in CONV_BLOCKS.items():
        members[stream].append((at, ends.conv_writers, ends.conv_readers))
    for at in blocks(config):
        members[int(at[5])].append((at, ends.block_writers, ends.block_readers))
    last = ("head", "head_kd") if getattr(config, "kd", False) else ("head",)
    found = []
    for i, (down, size) in enumerate(zip(DOWNSAMPLES, config.dims.streams, strict=True)):
        writers = [Part(f"{down}.encode_conv", (f"{down}.encode_bn",))]
        writers += [inside(at, part) for at, parts, _ in members[i] for part in parts]
        readers = [f"{at}.{layer}" for at, _, layers in members[i] for layer in layers]
        readers += [f"{DOWNSAMPLES[i + 1]}.encode_conv"] if i < 4 else last
        found.append(Group(f"stream.{i}", size, 1, tuple(writers), tuple(readers)))
    return found


def smaller(config: Config, sizes: Mapping[str, int]) -> Config:
    """The configuration with groups of these sizes: a kind is a field of `dims`, stream apart."""
    kinds = {name.split(".")[0] for name in sizes}
    fields = {kind: ("streams" if kind == "stream" else kind, 0) for kind in kinds}
    return msgspec.structs.replace(config, pruned=resized(config.dims, fields, sizes))
