"""What a model is, as plain data; needs no torch. One file a family."""

from edgesvit.models.config.spikformer import SpikformerConfig, spikformer

__all__ = ["SpikformerConfig", "spikformer"]
