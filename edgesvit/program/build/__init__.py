"""A trained model -> its spike program. One file a family says the order of its operators.

Works on plain arrays (a state dict of NumPy tensors), so that building needs no training framework.
"""

from collections.abc import Callable, Mapping, Sequence

from edgesvit.errors import UsageError
from edgesvit.models.config import (
    AnyConfig,
    QKFormerConfig,
    SdtV1Config,
    SdtV2Config,
    SdtV3Config,
    SdtV3LargeConfig,
    SpikformerConfig,
    takes_events,
)
from edgesvit.program.build.classifier import classify
from edgesvit.program.build.emitter import Emitter, Weights
from edgesvit.program.build.qkformer import emit_qkformer
from edgesvit.program.build.sdt_v1 import emit_sdt_v1
from edgesvit.program.build.sdt_v2 import emit_sdt_v2
from edgesvit.program.build.sdt_v3 import emit_sdt_v3
from edgesvit.program.build.sdt_v3_large import emit_sdt_v3_large
from edgesvit.program.build.spikformer import emit_spikformer
from edgesvit.program.ops import MAX_TIME_STEPS, Program, Value
from edgesvit.program.validate import validate

# Each emits everything up to what the classifier reads, or each of two, and returns that.
FAMILIES: dict[type, Callable[[Emitter], Value | tuple[Value, ...]]] = {
    SpikformerConfig: emit_spikformer,
    QKFormerConfig: emit_qkformer,
    SdtV1Config: emit_sdt_v1,
    SdtV2Config: emit_sdt_v2,
    SdtV3Config: emit_sdt_v3,
    SdtV3LargeConfig: emit_sdt_v3_large,
}


def build(config: AnyConfig, weights: Weights, mean: Sequence[float], std: Sequence[float],
          labels: Sequence[str] = (), bits: int = 8, layer_bits: Mapping[str, int] | None = None
          ) -> Program:
    """The spike program of a model. `weights` is its state dict, mean and std are per channel.

    Weights take `bits`, those of the layers (module names) in `layer_bits` as many as it says.
    Raises UsageError when a tensor is missing, a width is not 2 to 8, or the family or form has no
    integer program.
    """
    if takes_events(config) and config.time_steps > MAX_TIME_STEPS:
        raise UsageError(f"a program has at most {MAX_TIME_STEPS} time steps, this model has "
                         f"{config.time_steps}", "train it on fewer event frames")
    layer_bits = layer_bits or {}
    for width in (bits, *layer_bits.values()):
        if not 2 <= width <= 8:
            raise UsageError(f"{width}-bit weights", "choose 2 to 8 bits")
    if unknown := [layer for layer in layer_bits if f"{layer}.weight" not in weights]:
        raise UsageError(f"layer_bits names {unknown[0]!r}, which the model does not have",
                         "use the names of model.json's weights without .weight")
    emit = _emitted(Emitter(config, weights, bits, mean, std, takes_events(config), layer_bits))
    return validate(Program(emit.time_steps, tuple(emit.values), tuple(emit.ops),
                            tuple(labels)))


def layers(config: AnyConfig, weights: Weights) -> tuple[str, ...]:
    """The layers (module names) whose weights a program stores, from the image to the classifier.

    Classifiers that become one come last.
    """
    channels = config.in_channels
    emit = _emitted(Emitter(config, weights, 8, (0.0,) * channels, (1.0,) * channels,
                            takes_events(config)))
    heads = sorted(name.removesuffix(".weight") for name in weights
                   if name.startswith("head") and name.endswith(".weight"))
    return (*(layer for layer in emit.layers if layer not in heads), *heads)


def _emitted(emit: Emitter) -> Emitter:
    try:
        read = FAMILIES[type(emit.config)](emit)
        classify(emit, (read,) if isinstance(read, Value) else read)
    except KeyError as error:
        raise UsageError(f"the checkpoint has no tensor {error.args[0]!r}",
                         "check that model.json and weights.safetensors belong together") from None
    return emit
