"""What a run specification may say about training a latent diffusion; read without importing torch."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field


class DiffusionParameters(BaseModel):
    """The size and the training of a denoiser; protocols/silofuse/README.md has the measurements behind it.

    Attributes:
        steps: gradient steps at most: what a large table costs.
        epochs: passes over the rows at most: a small table is not learnt by heart. Whichever ends first.
        batch: rows per step.
        width: of the denoiser's hidden layers; its blocks widen twofold inside.
        blocks: residual blocks of the denoiser.
        learning_rate: at its height, after the warm-up.
        seed: of initial weights, batches and noise; no secret, it makes a training repeatable on one machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=4000, ge=1, le=10_000_000)
    epochs: int = Field(default=250, ge=1, le=10_000_000)
    batch: int = Field(default=512, ge=2, le=65_536)
    width: int = Field(default=256, ge=8, le=8192)
    blocks: int = Field(default=4, ge=1, le=64)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    def steps_for(self, rows: int) -> int:
        """Gradient steps on so many rows."""
        return min(self.steps, math.ceil(self.epochs * rows / self.batch))
