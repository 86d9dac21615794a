"""The spike program of an SDT-V3 Model_Base: SDT-V2's stages with integer neurons."""

from dataclasses import replace
from math import sqrt

from edgesvit.program.build.emitter import Emitter, Membrane
from edgesvit.program.build.sdt_v2 import Branches, emit_stages, mlp, wide_conv
from edgesvit.program.ops import Value


def emit_sdt_v3(emit: Emitter) -> Value:
    """Emit everything up to the neurons that the classifier reads, and return their levels."""
    conv_block = Branches(_conv_block, ("Conv.pwconv2.1", "bn2"))
    block = Branches(_block, ("conv.pwconv2.1", "attn.proj_conv.1", "mlp.fc2_bn"))
    stream = emit_stages(emit, conv_block, block)
    return emit.fire("head", stream, over_tokens=True, divided=False)


def _conv_block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    return wide_conv(emit, at, _sep_conv(emit, f"{at}.Conv", x, stream), stream)


def _block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    x = _sep_conv(emit, f"{at}.conv", x, stream)
    levels = emit.fire(f"{at}.attn.spike", x)

    def layer(name: str, source: Value, to: Membrane | None = None) -> Value:
        return emit.conv(f"{at}.{name}", f"{at}.attn.{name}_conv.0", f"{at}.attn.{name}_conv.1",
                         source, to=to)

    scale = 2 / sqrt(x.shape[2] // emit.config.heads)
    mixed = emit.attend(f"{at}.attn", *(layer(name, levels) for name in "qkv"), scale)
    return mlp(emit, at, layer("proj", mixed, replace(stream, stream=x)), stream)


def _sep_conv(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    """Point-wise, depth-wise, point-wise, a neuron before each, added to the stream."""
    wide = emit.conv(f"{at}.pwconv1", f"{at}.pwconv1.0", f"{at}.pwconv1.1",
                     emit.fire(f"{at}.spike", x))
    inner = emit.depthwise(f"{at}.dwconv", *emit.conv_constants(f"{at}.dwconv.0",
                                                               f"{at}.dwconv.1"), wide)
    return emit.conv(f"{at}.pwconv2", f"{at}.pwconv2.0", f"{at}.pwconv2.1", inner,
                     to=replace(stream, stream=x))
