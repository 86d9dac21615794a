"""The spike program of a QKFormer: token attention first, pooling before the neuron.

On a board the batch is one image, so the released models' batch-leaking neuron and the intended one
are the same program (config.proj_lif_axis does not matter here).
"""

from collections.abc import Callable

from edgesvit.models.config import QKFormerConfig
from edgesvit.program.build.emitter import Emitter
from edgesvit.program.build.tokens import on_chosen
from edgesvit.program.ops import Value

POOL = (3, 2)  # of the currents, before the neuron


def emit_qkformer(emit: Emitter) -> Value:
    """Emit everything up to the residual stream that the classifier reads, and return that."""
    config: QKFormerConfig = emit.config
    x = _first_embed(emit)
    for index in range(config.depths[0]):
        x = _through(emit, _token_block, f"stage1.{index}", x)
    x = _next_embed(emit, "patch_embed2", x)
    for index in range(config.depths[1]):
        x = _through(emit, _token_block, f"stage2.{index}", x)
    x = _next_embed(emit, "patch_embed3", x)
    for index in range(config.depths[2]):
        x = _through(emit, _block, f"stage3.{index}", x)
    return x


def _through(emit: Emitter, block: Callable[[Emitter, str, Value], Value], at: str, x: Value
             ) -> Value:
    return on_chosen(emit, at, lambda few: block(emit, at, few), x)


def _layer(emit: Emitter, name: str, source: Value, kernel: int = 1, **window) -> Value:
    """The official layer `name`_conv with `name`_bn and its neuron."""
    return emit.conv(name, f"{name}_conv", f"{name}_bn", source, kernel, **window)


def _first_embed(emit: Emitter) -> Value:
    large = emit.config.form == "imagenet"
    at = "patch_embed1"
    first = emit.encode(f"{at}.proj", f"{at}.proj_conv", f"{at}.proj_bn",
                        pool=POOL if large else None)
    x = _layer(emit, f"{at}.proj1", first, 3, pool=POOL if large else None)
    if large:
        x = _layer(emit, f"{at}.proj2", x, 3)
    shortcut = _layer(emit, f"{at}.proj_res", first, stride=2 if large else 1)
    return emit.add(f"{at}.stream", x, shortcut)


def _next_embed(emit: Emitter, at: str, x: Value) -> Value:
    large = emit.config.form == "imagenet"
    main = _layer(emit, f"{at}.proj3", x, 3, pool=POOL if large else None)
    main = _layer(emit, f"{at}.proj4", main, 3, pool=None if large else POOL)
    return emit.add(f"{at}.stream", main, _layer(emit, f"{at}.proj_res", x, stride=2))


def _token_block(emit: Emitter, at: str, x: Value) -> Value:
    query, key = (_layer(emit, f"{at}.tssa.{name}", x) for name in "qk")
    passed = emit.attend_tokens(f"{at}.tssa.attn", query, key)
    x = emit.add(f"{at}.stream.attn", x, _layer(emit, f"{at}.tssa.proj", passed))
    return _mlp(emit, at, x)


def _block(emit: Emitter, at: str, x: Value) -> Value:
    attention = f"{at}.{'attn' if emit.config.form == 'imagenet' else 'ssa'}"
    query, key, value = (_layer(emit, f"{attention}.{name}", x) for name in "qkv")
    mixed = emit.attend(f"{attention}.attn", query, key, value, emit.config.attention_scale)
    x = emit.add(f"{at}.stream.attn", x, _layer(emit, f"{attention}.proj", mixed))
    return _mlp(emit, at, x)


def _mlp(emit: Emitter, at: str, x: Value) -> Value:
    name = "fc" if emit.config.form == "imagenet" else "mlp"
    hidden = _layer(emit, f"{at}.mlp.{name}1", x)
    return emit.add(f"{at}.stream.mlp", x, _layer(emit, f"{at}.mlp.{name}2", hidden))
