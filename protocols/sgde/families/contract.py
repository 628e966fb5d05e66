"""What a family of generators promises; each is a module with these functions' bodies in one small class.

Everything but `fit` sees public things only: the schema, the run's parameters, and tensors that were released. So a
class without a single row has the same tensors as any other, of the same shapes, holding nothing but noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.codes import Floats
from protocols.learning.noise import Noise
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec
from protocols.sgde.parameters import SgdeParameters
from services.contract import ProgressCallback
from services.errors import ConfigError
from services.mechanism import Event, Mechanism, calibrated

Tensors = Mapping[str, NDArray[Any]]


def affordable(event_of: Callable[[float], Event], parameters: SgdeParameters) -> Event:
    """The event with hardly more noise than the run's ceilings ask for.

    Raises:
        ConfigError: no noise is enough.
    """
    try:
        return calibrated(event_of, parameters.epsilon, parameters.delta)
    except ValueError as error:
        raise ConfigError(f"no generator keeps within this: {error}", fix="allow more ε, or a larger δ") from error


class Family(Protocol):
    """A form of generator; `columns` and `parameters` are checked before they come here."""

    def mechanism(self, columns: Columns, parameters: SgdeParameters) -> Mechanism:
        """What `fit` will do for the silo's privacy: known before a row is read.

        Raises:
            ConfigError: no noise is enough for what is asked.
        """

    def fit(
        self,
        table: pd.DataFrame,
        columns: Columns,
        parameters: SgdeParameters,
        noise: Noise,
        progress: ProgressCallback,
    ) -> tuple[Tensors, Event]:
        """Fit to private rows.

        Args:
            table: rows [n >= 0] in the canonical types of `table.read_table`, one for each person.
            columns: the public schema.
            parameters: the run's.
            noise: covers what leaves.
            progress: called with phases and steps, never with a loss.

        Returns:
            All that may leave the silo, and the event that was executed: the mechanism's.
        """

    def expected(self, columns: Columns, parameters: SgdeParameters) -> dict[str, TensorSpec]:
        """Exactly the tensors of a generator."""

    def check(self, columns: Columns, parameters: SgdeParameters, tensors: Tensors) -> None:
        """Refuse a stranger's tensors, of expected shapes and finite, that stand for no generator.

        Raises:
            InvalidArtifact: what they lack.
        """

    def shares(self, columns: Columns, parameters: SgdeParameters, pool: Sequence[Tensors]) -> Floats:
        """How the pool's rows are shared out over the classes [c], as far as it was released; even where it was not."""

    def sample(
        self,
        columns: Columns,
        parameters: SgdeParameters,
        pool: Sequence[Tensors],
        counts: Mapping[str, int],
        rng: np.random.Generator,
    ) -> pd.DataFrame:
        """Rows in canonical types, in the schema's bounds and categories.

        Args:
            columns: the schema that all of the pool were fitted under.
            parameters: the run's.
            pool: tensors of one generator or more; several are combined as well as the family can.
            counts: how many rows of each class.
            rng: may be seeded: this is post-processing.
        """
