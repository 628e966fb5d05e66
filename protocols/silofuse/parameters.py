"""What a run specification may say about SiloFuse; read without importing torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from protocols.learning.parameters import DiffusionParameters

FormName = Literal["opaque", "paper", "layout"]


class SiloFuseParameters(DiffusionParameters):
    """The diffusion's parameters, and the form of the latents that it is trained on.

    Attributes:
        form: `opaque`, codes under a rotation that only the silo knows; `paper`, what a learned autoencoder makes of
            them; `layout`, codes as they are, with what the coordinator needs to read them: silos must allow it.
    """

    form: FormName = Field(default="opaque")

    @property
    def diffusion(self) -> DiffusionParameters:
        """The coordinator's part."""
        return DiffusionParameters(**self.model_dump(include=set(DiffusionParameters.model_fields)))
