"""The spike program of a Spike-Driven Transformer V1: attention by masks, a membrane stream."""

from dataclasses import replace
from functools import partial

from edgesvit.program.build.emitter import Emitter, Membrane
from edgesvit.program.build.tokens import on_chosen
from edgesvit.program.ops import Value

POOL = (3, 2)  # of the last stem stage's currents: they start the stream


def emit_sdt_v1(emit: Emitter) -> Value:
    """Emit everything up to the neurons that the classifier reads, and return their spikes."""
    stream = emit.stream(_branches(emit))
    x = _stem(emit, stream)
    for index in range(emit.config.depth):
        at = f"block.{index}"
        x = on_chosen(emit, at, partial(_block, emit, at, stream=stream), x)
    return emit.fire("head", x, over_tokens=True)


def _branches(emit: Emitter) -> list[str]:
    """The batch norms whose outputs the stream collects."""
    names = ["patch_embed.proj_bn3", "patch_embed.rpe_bn"]
    for index in range(emit.config.depth):
        names += [f"block.{index}.{bn}" for bn in ("attn.proj_bn", "mlp.fc2_bn")]
        if emit.config.mlp_shortcut:
            names.append(f"block.{index}.mlp.fc1_bn")
    return names


def _stem(emit: Emitter, stream: Membrane) -> Value:
    pool = emit.config.pool
    x = emit.encode("stem.0", "patch_embed.proj_conv", "patch_embed.proj_bn")
    for stage in range(3):
        if stage:
            x = emit.conv(f"stem.{stage}", f"patch_embed.proj_conv{stage}",
                          f"patch_embed.proj_bn{stage}", x, kernel=3)
        if pool[stage] == "1":
            x = emit.pool(f"stem.{stage}.pool", x)
    x = emit.conv("stem.3", "patch_embed.proj_conv3", "patch_embed.proj_bn3", x, kernel=3,
                  pool=POOL if pool[3] == "1" else None, to=stream)
    return emit.conv("stem.position", "patch_embed.rpe_conv", "patch_embed.rpe_bn",
                     emit.fire("stem.3.lif", x), kernel=3, to=replace(stream, stream=x))


def _block(emit: Emitter, at: str, x: Value, stream: Membrane) -> Value:
    def layer(name: str, source: Value, to: Membrane | None = None) -> Value:
        part = "mlp" if name.startswith("fc") else "attn"
        return emit.conv(f"{at}.{name}", f"{at}.{part}.{name}_conv", f"{at}.{part}.{name}_bn",
                         source, to=to)

    spikes = emit.fire(f"{at}.attn.lif", x)
    mixed = _attend(emit, f"{at}.attn", *(layer(name, spikes) for name in "qkv"))
    x = layer("proj", mixed, replace(stream, stream=x))
    spikes = emit.fire(f"{at}.mlp.lif", x)
    if emit.config.mlp_shortcut:  # the hidden layer is added to the stream and is the stream
        x = layer("fc1", spikes, replace(stream, stream=x))
        return layer("fc2", emit.fire(f"{at}.fc1.lif", x), replace(stream, stream=x))
    return layer("fc2", layer("fc1", spikes), replace(stream, stream=x))


def _attend(emit: Emitter, at: str, query: Value, key: Value, value: Value) -> Value:
    if not emit.config.events:
        return emit.attend_hadamard(at, query, key, value)
    # Keys and values spread over the grid, what follows over the row of tokens.
    key, value = (emit.pool(f"{spikes.name}.pool", spikes, stride=1) for spikes in (key, value))
    return emit.attend_hadamard(at, query, key, value, emit.config.heads)
