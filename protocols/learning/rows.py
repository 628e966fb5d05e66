"""Tables that need not fit in memory: whoever reads one takes a column at a time, or some rows at a time.

A `pd.DataFrame` is such a table; `protocols.learning.stored.Stored` is one whose values lie in files. What is computed
row by row goes by blocks of `BLOCK_ROWS` rows counted from the first, whatever memory there is: what depends on a
block's number comes out alike after a restart, and on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

BLOCK_ROWS = 16_384

Places = npt.NDArray[np.int64]


class Rows(Protocol):
    """A table in the canonical types of `protocols.learning.table`."""

    def __len__(self) -> int:
        """How many rows there are."""

    def __getitem__(self, name: Any, /) -> pd.Series:
        """One column, with all its rows."""

    def take(self, places: Any, /) -> pd.DataFrame:
        """The rows at these places, with all their columns."""


def spans(rows: int) -> list[slice]:
    """The blocks of so many rows, the last one shorter."""
    return [slice(start, min(start + BLOCK_ROWS, rows)) for start in range(0, rows, BLOCK_ROWS)]


def blocks(table: Rows) -> Iterator[pd.DataFrame]:
    """A table's blocks in their order, each with rows counted from 0."""
    for span in spans(len(table)):
        yield table.take(np.arange(span.start, span.stop)).reset_index(drop=True)
