"""What a SiloFuse run may say under `training`: how its latent diffusion is trained."""

from protocols.learning.parameters import DiffusionParameters as Parameters

__all__ = ["Parameters"]
