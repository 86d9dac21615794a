"""What a model is, as plain data; needs no torch. One file a family."""

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.qkformer import QKFormerConfig, qkformer
from edgesvit.models.config.sdt_v1 import SdtV1Config, sdt_v1
from edgesvit.models.config.sdt_v2 import SdtV2Config, sdt_v2
from edgesvit.models.config.sdt_v3 import SdtV3Config, SdtV3LargeConfig, sdt_v3
from edgesvit.models.config.spikformer import SpikformerConfig, spikformer
from edgesvit.models.config.token_pruning import TokenPruning

# What a run folder can hold: JSON says which by its field `family`.
AnyConfig = (SpikformerConfig | SdtV1Config | SdtV2Config | SdtV3Config | SdtV3LargeConfig
             | QKFormerConfig)

__all__ = [
    "AnyConfig",
    "QKFormerConfig",
    "SdtV1Config",
    "SdtV2Config",
    "SdtV3Config",
    "SdtV3LargeConfig",
    "SpikformerConfig",
    "TokenPruning",
    "qkformer",
    "sdt_v1",
    "sdt_v2",
    "sdt_v3",
    "spikformer",
    "takes_events",
    "with_time_steps",
]


def takes_events(config: AnyConfig) -> bool:
    """Whether the model reads event frames [T, H, W, C] instead of one image."""
    return getattr(config, "form", "") == "dvs" or getattr(config, "events", False)


def with_time_steps(config: AnyConfig, steps: int) -> AnyConfig:
    """The same model at T = `steps`: no weight depends on T. UsageError where T is not free."""
    if not hasattr(config, "time_steps") or takes_events(config):
        raise UsageError("the time steps of this model cannot be chosen: its neurons have levels, "
                         "or its input has frames", "leave the time steps as they are")
    return msgspec.structs.replace(config, time_steps=steps)
