"""What a silo grants a data set, and what a release asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.ledger.renyi import Filter, life_filter
from services.mechanism import Mechanism


class Budget(BaseModel):
    """What a silo's policy grants one of its data sets: a promise to the people in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epsilon_per_run: float = Field(gt=0, le=100, description="the most that one run may cost")
    epsilon_for_life: float = Field(gt=0, le=100, description="the most that all runs together may ever cost")
    delta: float = Field(
        gt=0, le=1e-3, description="of the guarantee for life, and the most of a run; public, never one over the rows"
    )

    @model_validator(mode="after")
    def _life_is_the_larger(self) -> Self:
        if self.epsilon_for_life < self.epsilon_per_run:
            raise ValueError("epsilon_for_life is at least epsilon_per_run")
        return self

    @property
    def filter(self) -> Filter:
        """The ceiling for life, as a limit on a sum."""
        return life_filter(self.epsilon_for_life, self.delta)


@dataclass(frozen=True)
class Charge:
    """What a release costs: the mechanism that is to be executed on a data set, and the δ at which its run is told."""

    dataset: str
    mechanism: Mechanism
    delta: float
