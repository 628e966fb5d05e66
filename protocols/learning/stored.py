"""A table in files, one for each column: written block by block, read as `protocols.learning.rows` says.

A quantity lies there as float64, NaN where it is missing; a category as its place among the declared labels, int16,
-1 where it is missing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from protocols.learning.codec import Quantity, as_categories, as_numbers, as_values
from protocols.learning.rows import Places, Rows, blocks
from protocols.learning.schema import Category, Column, Columns, Text
from services.files import TEMPORARY, private_folder, remove_tree, sync_folder


@dataclass(frozen=True)
class Stored:
    """Some rows of a table in files; see `protocols.learning.rows.Rows`.

    Attributes:
        folder: where the columns lie.
        columns: the public schema.
        places: which rows [n], in which order.
    """

    folder: Path
    columns: Columns
    places: Places

    @classmethod
    def open(cls, folder: Path, columns: Columns) -> Stored:
        """All rows of what `storing` left under the same schema."""
        rows = len(_map(folder, columns, next(iter(columns))))
        return cls(folder, columns, np.arange(rows))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, name: str, /) -> pd.Series:
        """One column [n]."""
        return self._read(name, self.places)

    def take(self, places: Places, /) -> pd.DataFrame:
        """The rows at these of this table's own places."""
        return pd.DataFrame({name: self._read(name, self.places[places]) for name in self.columns})

    def at(self, places: Places | npt.NDArray[np.bool_]) -> Stored:
        """The table of these rows alone."""
        return Stored(self.folder, self.columns, self.places[places])

    def _read(self, name: str, places: Places) -> pd.Series:
        found = _map(self.folder, self.columns, name)[places]  # the map, and the memory it took, end here
        column = self.columns[name]
        if isinstance(column, Category):
            return as_categories(found, column)
        return as_values(found, _quantity(column))


@dataclass(frozen=True)
class Writer:
    """A table that is being stored in a folder of its own."""

    folder: Path
    columns: Columns

    def append(self, block: pd.DataFrame) -> None:
        """Write the next rows, in canonical types."""
        for name in self.columns:
            self.extend(name, block[name])

    def extend(self, name: str, values: pd.Series) -> None:
        """Write the next values of one column."""
        column = self.columns[name]
        stored: npt.NDArray[Any]
        if isinstance(column, Category):
            stored = values.cat.codes.to_numpy(np.int16)
        else:
            stored = as_numbers(values, _quantity(column))[0]
        with _file(self.folder, self.columns, name).open("ab") as file:
            stored.tofile(file)

    def arrange(self, order: Places) -> None:
        """Bring all rows into another order: the new first row is that at place order[0]."""
        for name in self.columns:
            arranged = _map(self.folder, self.columns, name)[order]
            arranged.tofile(_file(self.folder, self.columns, name))


@contextmanager
def storing(folder: Path, columns: Columns) -> Iterator[Writer]:
    """Store a table: the folder appears whole when this ends well, in place of an older one, or not at all."""
    made = private_folder(folder.parent / f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield Writer(made, columns)
        for path in made.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(made)
        remove_tree(folder)
        made.rename(folder)
    finally:
        remove_tree(made)
    sync_folder(folder.parent)


def write_parquet(table: Rows, path: Path) -> None:
    """Write a table [n >= 1] as Parquet, a row group for each block."""
    writer = None
    try:
        for block in blocks(table):
            part = pa.Table.from_pandas(block, preserve_index=False)
            writer = writer or parquet.ParquetWriter(path, part.schema)
            writer.write_table(part)
    finally:
        if writer is not None:
            writer.close()


def write_csv(table: Rows, path: Path) -> None:
    """Write a table as CSV with a heading line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, block in enumerate(blocks(table)):
            block.to_csv(file, index=False, header=number == 0)


def _file(folder: Path, columns: Columns, name: str) -> Path:
    return folder / str(list(columns).index(name))


def _map(folder: Path, columns: Columns, name: str) -> npt.NDArray[Any]:
    kind = np.int16 if isinstance(columns[name], Category) else np.float64
    return np.memmap(_file(folder, columns, name), dtype=kind, mode="r")


def _quantity(column: Column) -> Quantity:
    assert not isinstance(column, Category | Text)  # noqa: S101 - categories went another way; no schema holds text
    return column
