"""The spike program of an SDT-V2 (Meta-SpikeFormer): four stages, a membrane stream in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgesvit.models.config import SdtV2Config, SdtV3Config
from edgesvit.program.build.emitter import (
    BN_EPSILON,
    DEVIATIONS,
    Emitter,
    Membrane,
    fold_batch_norm,
)
from edgesvit.program.build.tokens import on_chosen
from edgesvit.program.ops import Value

ATTENTION_SCALE = 0.125  # whatever the head width is


def emit_sdt_v2(emit: Emitter) -> Value:
    """Emit everything up to the neurons that the classifier reads, and return their spikes."""
    conv_block = Branches(_conv_block, ("Conv.bn2", "bn2"))
    block = Branches(_block, ("attn.proj_conv.1", "mlp.fc2_bn"))
    return emit.fire("head", emit_stages(emit, conv_block, block), over_tokens=True)


@dataclass(frozen=True)
class Branches:
    """One kind of block: how it is emitted, and the batch norms its branches end in."""

    emit: Callable[[Emitter, str, Value, Membrane], Value]
    bns: tuple[str, ...]


def emit_stages(emit: Emitter, conv_block: Branches, block: Branches) -> Value:
    """The stages of an SDT-V2 or V3, each a down-sampling and the blocks that add to its stream.

    Returns the last stream.
    """
    config: SdtV2Config | SdtV3Config = emit.config
    transformers = [[f"block{stage}.{index}" for index in range(count)]
                    for stage, count in zip((3, 4), config.blocks, strict=True)]
    stages = (
        ("downsample1_1", conv_block, ["ConvBlock1_1.0"]),
        ("downsample1_2", conv_block, ["ConvBlock1_2.0"]),
        ("downsample2", conv_block, ["ConvBlock2_1.0", "ConvBlock2_2.0"]),
        ("downsample3", block, transformers[0]),
        ("downsample4", block, transformers[1]),
    )
    x = None
    for (down, kind, names), stride in zip(stages, config.strides, strict=True):
        stream = emit.stream([f"{down}.encode_bn", *(f"{at}.{bn}" for at in names
                                                     for bn in kind.bns)])
        x = _downsample(emit, down, x, stride, stream)
        for name in names:
            x = kind.emit(emit, name, x, stream)
    return x


def _downsample(emit: Emitter, at: str, x: Value | None, stride: int, stream: Membrane) -> Value:
    """Start the stream of a stage: from the image, or from the neurons of the stage before."""
    layer, bn = f"{at}.encode_conv", f"{at}.encode_bn"
    if x is None:
        return emit.encode(at, layer, bn, kernel=7, stride=stride, to=stream)
    return emit.conv(at, layer, bn, emit.fire(f"{at}.lif", x), 3, stride, to=stream)


def mlp(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    """Two point-wise layers, added to the stream."""
    hidden = emit.conv(f"{at}.fc1", f"{at}.mlp.fc1_conv", f"{at}.mlp.fc1_bn",
                       emit.fire(f"{at}.mlp.lif", x))
    return emit.conv(f"{at}.fc2", f"{at}.mlp.fc2_conv", f"{at}.mlp.fc2_bn", hidden,
                     to=replace(stream, stream=x))


def wide_conv(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    """Two 3x3 convolutions, added to the stream."""
    hidden = emit.conv(f"{at}.conv1", f"{at}.conv1", f"{at}.bn1", emit.fire(f"{at}.conv1.lif", x),
                       3)
    return emit.conv(f"{at}.conv2", f"{at}.conv2", f"{at}.bn2", hidden, 3,
                     to=replace(stream, stream=x))


def _conv_block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    conv = f"{at}.Conv"
    wide = emit.conv(f"{conv}.pwconv1", f"{conv}.pwconv1", f"{conv}.bn1",
                     emit.fire(f"{conv}.lif", x))
    # No neuron follows the depth-wise layer: its currents are numbers, and the layer behind reads
    # them densely.
    window, bias = emit.conv_constants(f"{conv}.dwconv", None)
    between = emit.between(np.abs(window).sum(0), readers=wide.shape[2])
    numbers = emit.depthwise(f"{conv}.dwconv", f"{conv}.dwconv", window, bias, wide,
                             between)
    x = emit.conv(f"{conv}.pwconv2", f"{conv}.pwconv2", f"{conv}.bn2", numbers,
                  to=replace(stream, stream=x))
    return wide_conv(emit, at, x, stream)


def _block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    attention = f"{at}.attn"
    spikes = emit.fire(f"{attention}.lif", x)
    query, key, value = (_rep_conv(emit, f"{attention}.{name}_conv", spikes) for name in "qkv")
    mixed = emit.attend(attention, query, key, value, ATTENTION_SCALE)
    x = _rep_conv(emit, f"{attention}.proj_conv", mixed, replace(stream, stream=x))
    return on_chosen(emit, at, lambda few: mlp(emit, at, few, stream), x)


def _rep_conv(emit: Emitter, at: str, spikes: Value, to: Membrane | None = None) -> Value:
    """Point-wise, depth-wise 3x3, point-wise, with all batch norms folded into the three.

    Kept in three layers, 2 C^2 + 9 C weights: as one 3x3 convolution it would hold 9 C^2, and add
    9 f C^2 of them a token and step at firing rate f, where three layers add f C^2 and multiply
    C^2 + 9 C. The weights decide.
    """
    first, second, third = f"{at}.0.body.0", f"{at}.0.body.2.0", f"{at}.0.body.2.1"
    weight, bias = emit.conv_constants(first, None)
    reach = np.minimum(_reach(emit, f"{at}.0.body.1.bn"), np.abs(weight).sum(0))
    x = emit.convolve(f"{at}.1", first, weight, bias, spikes,
                      to=emit.between(reach, readers=9))
    # The border that the official padding fills with BN(0) is a zero border of this layer's
    # input, because its BN moves behind it.
    window, _ = emit.conv_constants(second, None)  # [9, C]
    scale, shift = fold_batch_norm(np.ones((1, window.shape[1])), np.zeros(window.shape[1]),
                                   emit.weights, f"{at}.0.body.1.bn")
    bias, window = shift * window.sum(0), window * scale
    between = emit.between(np.abs(window).sum(0) * reach + np.abs(bias), window.shape[1])
    x = emit.depthwise(f"{at}.2", second, window, bias, x, between)
    weight, bias = emit.conv_constants(third, f"{at}.0.body.2.2")
    weight, bias = fold_batch_norm(weight, bias, emit.weights, f"{at}.1")
    return emit.convolve(f"{at}.3", third, weight, bias, x, to=to)


def _reach(emit: Emitter, bn: str) -> np.ndarray:
    """How far the inputs of a batch norm go, by its running statistics: [C]."""
    deviation = np.sqrt(emit.weights[f"{bn}.running_var"].astype(np.float64) + BN_EPSILON)
    return np.abs(emit.weights[f"{bn}.running_mean"]) + DEVIATIONS * deviation
