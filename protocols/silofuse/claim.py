"""What a run that asks for `noise` claims about every row that a silo uploads; all of it public.

*The claim.* A silo's upload holds one row for each common training record. That row is a random function of the
record's own values alone, and replacing these by any others that the schema allows changes its distribution by at most
(ε, δ). Nobody has to be trusted for it: the noise is added in the silo.

*What it does not cover.* Who is in the table: pseudonyms go to the coordinator as in every run, and so do the numbers
of records. A person whom k silos know is in k uploads, each with its own (ε, δ): together they are one Gaussian of √k
times less noise (`together`). What a silo decodes for itself is shaped by its own quantiles and shares, without noise.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

from protocols.learning.schema import Category, Columns
from services.artifact import Spend
from services.errors import ConfigError
from services.mechanism import Event, Gaussian, Mechanism, calibrated

DELTA = 1e-5


class NoiseParameters(BaseModel):
    """The part called `training.noise` of a run specification.

    Attributes:
        epsilon: what one person's row may cost at each silo, at most; a claim above 50 is none.
        delta: at this δ; public policy, never taken from the data.
        skewed: quantities whose values crowd near their lower bound, as is publicly known (incomes, concentrations):
            they are seen on a logarithmic scale.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epsilon: float = Field(ge=0.01, le=50)
    delta: float = Field(default=DELTA, ge=1e-15, le=1e-3)
    skewed: tuple[str, ...] = ()

    def check(self, columns: Columns) -> None:
        """Refuse what the schema contradicts.

        Raises:
            ConfigError: `skewed` names something else than quantities.
        """
        quantities = {name for name, column in columns.items() if not isinstance(column, Category)}
        if unknown := sorted(set(self.skewed) - quantities):
            raise ConfigError(f"`noise.skewed` names what is no quantity of the schema: {', '.join(unknown)}")

    @property
    def mechanism(self) -> Mechanism:
        """What each silo executes: one Gaussian, whose noise counts in the greatest distance between two rows."""
        return mechanism_of(self.epsilon, self.delta)

    @property
    def spend(self) -> Spend:
        """What a release of noised rows says of itself."""
        return Spend(mechanism=self.mechanism.model_dump(mode="json"), delta=self.delta)

    def together(self, silos: int) -> float:
        """The ε, at the same δ, of so many silos' uploads about one person together."""
        from dp_accounting import get_epsilon_gaussian  # noqa: PLC0415 - takes a second to load

        return float(get_epsilon_gaussian(_multiplier(self.mechanism) / math.sqrt(silos), self.delta))


def norm_of(columns: Columns) -> float:
    """The greatest norm of a row's latent: each quantity, category and flag of what is missing has 1 at most."""
    flags = sum(column.missing for column in columns.values() if not isinstance(column, Category))
    return math.sqrt(len(columns) + flags)


def deviation(mechanism: Mechanism, columns: Columns) -> float:
    """The noise on each dimension of a silo's latents: two rows are at most twice the norm apart."""
    return _multiplier(mechanism) * 2 * norm_of(columns)


def deviation_for(epsilon: float, delta: float, columns: Columns) -> float:
    """The noise that stands for any ε, to measure what it hides: beyond what a run may claim, too."""
    from dp_accounting import get_sigma_gaussian  # noqa: PLC0415 - takes a second to load

    return float(get_sigma_gaussian(epsilon, delta)) * 2 * norm_of(columns)


def mechanism_of(epsilon: float, delta: float) -> Mechanism:
    """The Gaussian with hardly more noise than keeps within ε at δ.

    Raises:
        ConfigError: no noise is enough.
    """
    try:
        return Mechanism(adjacency="replace-one", event=calibrated(_gaussian, epsilon, delta))
    except ValueError as error:
        raise ConfigError(f"no noise keeps within this: {error}", fix="allow more ε, or a larger δ") from error


def _multiplier(mechanism: Mechanism) -> float:
    assert isinstance(mechanism.event, Gaussian)  # noqa: S101 - what mechanism_of makes
    return mechanism.event.noise_multiplier


def _gaussian(scale: float) -> Event:
    return Gaussian(noise_multiplier=scale)
