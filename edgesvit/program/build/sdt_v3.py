"""The spike program of an SDT-V3 Model_Base: SDT-V2's stages with integer neurons."""

from dataclasses import replace

from edgesvit.program.build.emitter import Emitter, Membrane
from edgesvit.program.build.sdt_v2 import Branches, emit_stages, mlp, wide_conv
from edgesvit.program.build.tokens import Choice
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
    choice = Choice(emit, at, x)
    x = _sep_conv(emit, f"{at}.conv", x, stream)
    return choice.over(lambda few: _branches(emit, at, few, stream), x)


def _branches(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    levels = emit.fire(f"{at}.attn.spike", x)

    def layer(name: str, source: Value, to: Membrane | None = None) -> Value:
        return emit.conv(f"{at}.{name}", f"{at}.attn.{name}_conv.0", f"{at}.attn.{name}_conv.1",
                         source, to=to)

    scale = emit.config.attention_scales[at.startswith("block4")]
    mixed = emit.attend(f"{at}.attn", *(layer(name, levels) for name in "qkv"), scale)
    return mlp(emit, at, layer("proj", mixed, replace(stream, stream=x)), stream)


def _sep_conv(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    """Point-wise, depth-wise, point-wise, a neuron before each, added to the stream."""
    wide = emit.conv(f"{at}.pwconv1", f"{at}.pwconv1.0", f"{at}.pwconv1.1",
                     emit.fire(f"{at}.spike", x))
    window, bias = emit.conv_constants(f"{at}.dwconv.0", f"{at}.dwconv.1")
    inner = emit.depthwise(f"{at}.dwconv", f"{at}.dwconv.0", window, bias, wide)
    return emit.conv(f"{at}.pwconv2", f"{at}.pwconv2.0", f"{at}.pwconv2.1", inner,
                     to=replace(stream, stream=x))
