"""People whose columns depend on each other: whole numbers, numbers, dates and labels, some of them missing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from protocols.learning.schema import Columns
from protocols.learning.table import conform
from tests.tables import COLUMNS, people


@dataclass(frozen=True)
class Trial:
    columns: Columns
    training: pd.DataFrame
    held_out: pd.DataFrame
    fresh: pd.DataFrame


@pytest.fixture(scope="session")
def trial() -> Trial:
    columns = TypeAdapter(Columns).validate_python({k: v for part in COLUMNS.values() for k, v in part.items()})
    whole = conform(people(2400), columns)
    parts = (whole[start:end].reset_index(drop=True) for start, end in ((0, 900), (900, 1500), (1500, 2400)))
    return Trial(columns, *parts)


def shuffled(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Every column in an order of its own."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: table[name].iloc[rng.permutation(len(table))].reset_index(drop=True) for name in table})
