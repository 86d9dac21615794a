"""edgesvit: spiking vision transformers, from a checkpoint to a measured program on a board."""

__version__ = "0.1.0"
