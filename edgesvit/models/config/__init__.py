"""What a model is, as plain data; needs no torch. One file a family."""

from edgesvit.models.config.qkformer import QKFormerConfig, qkformer
from edgesvit.models.config.sdt_v1 import SdtV1Config, sdt_v1
from edgesvit.models.config.sdt_v2 import SdtV2Config
from edgesvit.models.config.sdt_v3 import SdtV3Config, SdtV3LargeConfig
from edgesvit.models.config.spikformer import SpikformerConfig, spikformer

__all__ = [
    "QKFormerConfig",
    "SdtV1Config",
    "SdtV2Config",
    "SdtV3Config",
    "SdtV3LargeConfig",
    "SpikformerConfig",
    "qkformer",
    "sdt_v1",
    "spikformer",
]
