"""A trained model -> its spike program: the order of operators, family by family.

Works on plain arrays (a state dict of NumPy tensors), so that building needs no training framework.
"""

from collections.abc import Sequence

from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig, QKFormerConfig, SpikformerConfig
from edgesvit.program.build_qkformer import emit_qkformer
from edgesvit.program.emit import Emitter, Weights
from edgesvit.program.ops import Program, Value
from edgesvit.program.validate import validate


def build(config: AnyConfig, weights: Weights, mean: Sequence[float], std: Sequence[float],
          labels: Sequence[str] = (), bits: int = 8) -> Program:
    """The spike program of a model. `weights` is its state dict, mean and std are per channel.

    Raises UsageError when a tensor is missing, `bits` is not 2 to 8, the model takes events, or its
    family has no integer program.
    """
    if not isinstance(config, SpikformerConfig | QKFormerConfig):
        raise UsageError(f"{type(config).__name__.removesuffix('Config')} has no integer program "
                         "yet", "Spikformer and QKFormer have one: edgesvit train --family")
    if config.form == "dvs":
        raise UsageError("a program takes one still image, this Spikformer takes event frames",
                         "choose a model of the linear or conv form")
    if not 2 <= bits <= 8:
        raise UsageError(f"{bits}-bit weights", "choose 2 to 8 bits")
    emit = Emitter(config, weights, bits)
    family = emit_qkformer if isinstance(config, QKFormerConfig) else _emit_spikformer
    try:
        emit.classify("logits", family(emit, mean, std))
    except KeyError as error:
        raise UsageError(f"the checkpoint has no tensor {error.args[0]!r}",
                         "check that model.json and weights.safetensors belong together") from None
    return validate(Program(config.time_steps, tuple(emit.values), tuple(emit.ops),
                            tuple(labels)))


def _emit_spikformer(emit: Emitter, mean: Sequence[float], std: Sequence[float]) -> Value:
    x = _stem(emit, mean, std)
    for index in range(emit.config.depth):
        x = _block(emit, index, x)
    return x


def _stem(emit: Emitter, mean: Sequence[float], std: Sequence[float]) -> Value:
    x = emit.encode("stem.0", "patch_embed.proj_conv", "patch_embed.proj_bn", mean, std)
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

    mixed = emit.attend(f"block.{index}.attn", layer("q", x), layer("k", x), layer("v", x))
    x = emit.add(f"block.{index}.stream.attn", x, layer("proj", mixed))
    return emit.add(f"block.{index}.stream.mlp", x, layer("fc2", layer("fc1", x)))
