"""The spike program of a Spikformer, linear or conv form."""

from functools import partial

from edgesvit.program.build.emitter import Emitter
from edgesvit.program.build.tokens import on_chosen
from edgesvit.program.ops import Value


def emit_spikformer(emit: Emitter) -> Value:
    """Emit everything up to the residual stream that the classifier reads, and return that."""
    x = _stem(emit)
    for index in range(emit.config.depth):
        x = on_chosen(emit, f"block.{index}", partial(_block, emit, index), x)
    return x


def _stem(emit: Emitter) -> Value:
    x = emit.encode("stem.0", "patch_embed.proj_conv", "patch_embed.proj_bn")
    for stage in range(4):
        if stage:
            x = emit.conv(f"stem.{stage}", f"patch_embed.proj_conv{stage}",
                          f"patch_embed.proj_bn{stage}", x, kernel=3)
        if emit.config.pool[stage] == "1":
            x = emit.pool(f"stem.{stage}.pool", x)
    position = emit.conv("stem.position", "patch_embed.rpe_conv", "patch_embed.rpe_bn", x, 3)
    return emit.add("stream", x, position)


def _block(emit: Emitter, index: int, x: Value) -> Value:
    kind = emit.config.point_layer

    def layer(name: str, source: Value) -> Value:
        at = f"block.{index}.{'mlp' if name.startswith('fc') else 'attn'}.{name}"
        return emit.conv(f"block.{index}.{name}", f"{at}_{kind}", f"{at}_bn", source)

    mixed = emit.attend(f"block.{index}.attn", layer("q", x), layer("k", x), layer("v", x),
                        emit.config.attention_scale)
    x = emit.add(f"block.{index}.stream.attn", x, layer("proj", mixed))
    return emit.add(f"block.{index}.stream.mlp", x, layer("fc2", layer("fc1", x)))
