"""A trained model -> its spike program. One file a family says the order of its operators.

Works on plain arrays (a state dict of NumPy tensors), so that building needs no training framework.
"""

from collections.abc import Callable, Sequence

from edgesvit.errors import UsageError
from edgesvit.models.config import (
    AnyConfig,
    QKFormerConfig,
    SdtV1Config,
    SdtV2Config,
    SdtV3Config,
    SpikformerConfig,
)
from edgesvit.program.build.emitter import Emitter, Weights
from edgesvit.program.build.qkformer import emit_qkformer
from edgesvit.program.build.sdt_v1 import emit_sdt_v1
from edgesvit.program.build.sdt_v2 import emit_sdt_v2
from edgesvit.program.build.sdt_v3 import emit_sdt_v3
from edgesvit.program.build.spikformer import emit_spikformer
from edgesvit.program.ops import MAX_TIME_STEPS, Program, Value
from edgesvit.program.validate import validate

# Each emits everything up to the value that the classifier reads, and returns that.
FAMILIES: dict[type, Callable[[Emitter], Value]] = {
    SpikformerConfig: emit_spikformer,
    QKFormerConfig: emit_qkformer,
    SdtV1Config: emit_sdt_v1,
    SdtV2Config: emit_sdt_v2,
    SdtV3Config: emit_sdt_v3,
}


def takes_events(config: AnyConfig) -> bool:
    """Whether the model reads event frames [T, H, W, C] instead of one image."""
    return getattr(config, "form", "") == "dvs" or getattr(config, "events", False)


def build(config: AnyConfig, weights: Weights, mean: Sequence[float], std: Sequence[float],
          labels: Sequence[str] = (), bits: int = 8) -> Program:
    """The spike program of a model. `weights` is its state dict, mean and std are per channel.

    Raises UsageError when a tensor is missing, `bits` is not 2 to 8, or the family or form has no
    integer program.
    """
    if type(config) not in FAMILIES:
        raise UsageError("SDT-V3 Model_Large has no integer program", "the other families have one")
    if getattr(config, "events", False):
        raise UsageError("the event form of SDT-V1 has no integer program",
                         "Spikformer's has one")
    if takes_events(config) and config.time_steps > MAX_TIME_STEPS:
        raise UsageError(f"a program has at most {MAX_TIME_STEPS} time steps, this model has "
                         f"{config.time_steps}", "train it on fewer event frames")
    if not 2 <= bits <= 8:
        raise UsageError(f"{bits}-bit weights", "choose 2 to 8 bits")
    emit = Emitter(config, weights, bits, mean, std, events=takes_events(config))
    try:
        emit.classify("logits", FAMILIES[type(config)](emit))
    except KeyError as error:
        raise UsageError(f"the checkpoint has no tensor {error.args[0]!r}",
                         "check that model.json and weights.safetensors belong together") from None
    return validate(Program(emit.time_steps, tuple(emit.values), tuple(emit.ops),
                            tuple(labels)))
