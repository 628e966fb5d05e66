"""What a run specification may say about SiloFuse; read without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from protocols.learning.parameters import DiffusionParameters
from protocols.silofuse.claim import NoiseParameters

FormName = Literal["opaque", "paper", "layout"]

LAYOUT_STEPS = 3000
"""Gradient steps where the layout is known, unless a run says otherwise: labels are learnt sooner than points."""


class SiloFuseParameters(DiffusionParameters):
    """The diffusion's parameters, and the form of the latents that it is trained on.

    Attributes:
        form: `opaque`, codes under a rotation that only the silo knows; `paper`, what a learned autoencoder makes of
            them; `layout`, codes as they are, with what the coordinator needs to read them: silos must allow it.
        noise: covers every row that a silo uploads, with a claim (`protocols.silofuse.claim`); its encoder is made of
            the public schema alone, and takes the place of the opaque one. None claims nothing.
    """

    form: FormName = Field(default="opaque")
    noise: NoiseParameters | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_layout_needs_fewer_steps(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("form") == "layout":
            return {"steps": LAYOUT_STEPS, **values}
        return values

    @model_validator(mode="after")
    def _noise_has_its_own_form(self) -> Self:
        if self.noise is not None and self.form != "opaque":
            raise ValueError(f"noise goes with the form `opaque` alone: with `{self.form}` nothing could be claimed")
        return self

    @property
    def diffusion(self) -> DiffusionParameters:
        """The coordinator's part."""
        return DiffusionParameters(**self.model_dump(include=set(DiffusionParameters.model_fields)))
