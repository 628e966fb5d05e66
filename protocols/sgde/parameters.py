"""What a run specification says about SGDE's generators: all of it public, and small.

From these and the schema alone follow the mechanism, the noise, and every shape of a generator.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from protocols.learning.schema import Category, Columns
from services.errors import ConfigError

FamilyName = Literal["moments", "logistic", "tan", "vae"]

MAX_CLASSES = 100


class VaeParameters(BaseModel):
    """The size and the training of a class's β-VAE.

    Attributes:
        latent: dimensions of the latent space.
        width: of the hidden layer of encoder and decoder.
        beta: weight of the divergence from the prior.
        steps: gradient steps per class.
        rate: the probability with which a record takes part in a step.
        learning_rate: of Adam.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent: int = Field(default=4, ge=1, le=64)
    width: int = Field(default=32, ge=2, le=1024)
    beta: float = Field(default=0.5, gt=0, le=100)
    steps: int = Field(default=150, ge=1, le=100_000)
    rate: float = Field(default=0.2, gt=0, lt=1)
    learning_rate: float = Field(default=5e-3, gt=0, le=1)


class SgdeParameters(BaseModel):
    """The part called `training` of a run specification.

    Attributes:
        label: the category column whose values are the classes.
        family: the form of the generators.
        epsilon: what a silo spends on its generator, at most.
        delta: at this δ; public policy, never taken from the data.
        records: about how many rows a silo has; public, it decides how finely a family looks.
        skewed: quantities whose values crowd near their lower bound, as is publicly known (incomes, concentrations):
            they are seen on a logarithmic scale.
        dimensions: `moments` and `logistic` take neighbouring quantities together in at most so many averages.
        vae: settings of the `vae` family.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str = Field(max_length=128)
    family: FamilyName
    epsilon: float = Field(default=1.5, ge=0.01, le=10)
    delta: float = Field(default=1e-5, ge=1e-15, le=0.01)
    records: int = Field(ge=1, le=1_000_000_000)
    skewed: tuple[str, ...] = ()
    dimensions: int = Field(default=12, ge=1, le=64)
    vae: VaeParameters = VaeParameters()

    def check(self, columns: Columns) -> None:
        """Refuse a schema that no generator can be made for.

        Raises:
            ConfigError: which column, and how to declare it.
        """
        label = columns.get(self.label)
        if not isinstance(label, Category) or label.missing or not 2 <= len(label.categories) <= MAX_CLASSES:
            raise ConfigError(
                f"the label {self.label!r} is not a declared category of 2 to {MAX_CLASSES} classes without missing",
                fix="name a column of type category under `training.label`",
            )
        if len(columns) < 2:
            raise ConfigError("there is nothing to generate beside the label", fix="declare more columns")
        quantities = {name for name, column in columns.items() if column.type in {"number", "integer", "date"}}
        if unknown := sorted(set(self.skewed) - quantities):
            raise ConfigError(f"`skewed` names what is no quantity of the schema: {', '.join(unknown)}")
