"""The spike program of an SDT-V3 Model_Large: point-wise blocks, integer neurons, two heads."""

from dataclasses import replace

import numpy as np

from edgesvit.program.build.emitter import Emitter, Membrane, fold_batch_norm
from edgesvit.program.ops import Value

ATTENTION_SCALE = 0.125  # whatever the head width is
STAGES = {  # down-sampling, and the blocks of convolutions that add to its stream
    "downsample1_1": ("ConvBlock1_1.0",),
    "downsample1_2": ("ConvBlock1_2.0",),
    "downsample2": ("ConvBlock2_1.0", "ConvBlock2_2.0"),
}


def emit_sdt_v3_large(emit: Emitter) -> tuple[Value, ...]:
    """Emit everything up to what the classifiers read: the stream, and with `kd` its levels."""
    config = emit.config
    x = None
    for down, blocks in STAGES.items():
        stream = emit.stream([f"{down}.encode_bn", *(f"{at}.conv2.0.1" for at in blocks)])
        x = _downsample(emit, down, x, stream)
        for at in blocks:
            x = _conv_block(emit, at, x, stream)
    stream = _token_stream(emit)
    x = _downsample(emit, "downsample3", x, stream)
    for index in range(config.depth):
        x = _block(emit, f"block3.{index}", x, stream)
    # The first classifier reads the membranes themselves.
    return (x, emit.fire("head", x, over_tokens=True, divided=False)) if config.kd else (x,)


def _token_stream(emit: Emitter) -> Membrane:
    """The stream of the blocks: learned gains multiply what their branches add to it."""
    bns, gains = ["downsample3.encode_bn"], {}
    for index in range(emit.config.depth):
        at = f"block3.{index}"
        if emit.config.choice == "base":
            bns.append(f"{at}.rep_conv.conv2.1")
        for bn, gain in ((f"{at}.attn.proj_conv.1", 1), (f"{at}.mlp.fc2_bn", 2)):
            bns.append(bn)
            gains[bn] = emit.weights[f"{at}.layer_scale{gain}"]
    return emit.stream(bns, gains)


def _downsample(emit: Emitter, at: str, x: Value | None, stream: Membrane) -> Value:
    layer, bn = f"{at}.encode_conv", f"{at}.encode_bn"
    if x is None:
        return emit.encode(at, layer, bn, kernel=7, stride=2, to=stream)
    return emit.conv(at, layer, bn, emit.fire(f"{at}.lif", x), 3, stride=2, to=stream)


def _conv_block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    wide = emit.conv(f"{at}.conv1", f"{at}.conv1.0.0", f"{at}.conv1.0.1",
                     emit.fire(f"{at}.neuron1", x), 3)
    return emit.conv(f"{at}.conv2", f"{at}.conv2.0.0", f"{at}.conv2.0.1", wide, 3,
                     to=replace(stream, stream=x))


def _block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    attention = f"{at}.attn"
    if emit.config.choice == "base":
        x = _rep_conv(emit, f"{at}.rep_conv", "", emit.fire(f"{at}.lif", x),
                      to=replace(stream, stream=x))
    levels = emit.fire(f"{attention}.lif", x)

    def layer(name: str, source: Value, **after) -> Value:
        return _rep_conv(emit, f"{attention}.{name}_conv.0", f"{attention}.{name}_conv.1", source,
                         **after)

    mixed = emit.attend(attention, *(layer(name, levels) for name in "qkv"), ATTENTION_SCALE)
    x = layer("proj", mixed, gain=emit.weights[f"{at}.layer_scale1"],
              to=replace(stream, stream=x))
    hidden = emit.conv(f"{at}.fc1", f"{at}.mlp.fc1_conv", f"{at}.mlp.fc1_bn",
                       emit.fire(f"{at}.mlp.lif", x))
    weight, bias = emit.conv_constants(f"{at}.mlp.fc2_conv", f"{at}.mlp.fc2_bn")
    gain = emit.weights[f"{at}.layer_scale2"]
    return emit.convolve(f"{at}.fc2", f"{at}.mlp.fc2_conv", weight * gain, bias * gain, hidden,
                         to=replace(stream, stream=x))


def _rep_conv(emit: Emitter, at: str, bn: str, levels: Value, gain: np.ndarray | float = 1.0,
              to: Membrane | None = None) -> Value:
    """Two point-wise layers with nothing between them as one, the outer batch norm in it.

    C C' weights that add, in place of 1.5 C (C + C'), half of which would multiply.
    """
    weight, bias = emit.conv_constants(f"{at}.conv1.0", f"{at}.conv1.1")
    second, shift = emit.conv_constants(f"{at}.conv2.0", f"{at}.conv2.1")
    weight, bias = weight @ second, bias @ second + shift
    if bn:
        weight, bias = fold_batch_norm(weight, bias, emit.weights, bn)
    return emit.convolve(at, f"{at}.conv2.0", weight * gain, bias * gain, levels, to=to)
