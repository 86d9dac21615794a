"""What a model is, as plain data; needs no torch. One file a family."""

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
]
