"""A table as one matrix: labels and days become numbers, missing becomes NaN; distances between such rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from protocols.learning.rows import Places, Rows
from protocols.learning.schema import Category, Column, Columns, Date

Floats = NDArray[np.float64]

MOST_ROWS = 50_000
"""Rows of a table that are measured at most: more of them sharpen no measure, and cost time and memory."""

CHUNK_ROWS = 1024
"""Rows whose distances to all others are held in memory at once."""


def drawn(table: Rows) -> Places:
    """The places, in order, of the rows that stand for a table where it is too large to measure whole; always alike."""
    count = len(table)
    if count <= MOST_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(count).choice(count, MOST_ROWS, replace=False))


def matrix(table: pd.DataFrame, columns: Columns) -> Floats:
    """The table [rows, columns] as numbers: a category's place among the declared ones, a date's days since 1970.

    Args:
        table: in the canonical types of `protocols.learning.table`.
        columns: the public schema; the matrix has its order.
    """
    return np.column_stack([_numbers(table[name], column) for name, column in columns.items()])


def _numbers(values: pd.Series, column: Column) -> Floats:
    if isinstance(column, Category):
        codes = values.cat.codes.to_numpy(np.float64)
        return np.where(codes < 0, np.nan, codes)
    if isinstance(column, Date):
        values = (values - pd.Timestamp(0)).dt.days
    return values.to_numpy(np.float64, na_value=np.nan)


def quantities(columns: Columns) -> list[int]:
    """The places of numbers, integers and dates."""
    return [place for place, column in enumerate(columns.values()) if not isinstance(column, Category)]


def categories(columns: Columns) -> dict[int, int]:
    """The places of categories, each with the number of its labels."""
    return {place: len(c.categories) for place, c in enumerate(columns.values()) if isinstance(c, Category)}


def labels(values: Floats, count: int) -> NDArray[np.int64]:
    """A category's column [n] of a matrix as places among its labels, a missing one after them."""
    return np.where(np.isnan(values), count, values).astype(np.int64)


def one_hot(places: NDArray[np.int64], count: int) -> Floats:
    """Indicators [n, count] of places [n] below `count`."""
    return np.eye(count)[places]


@dataclass(frozen=True)
class Space:
    """Where rows of mixed types lie, after Gower (1971): every column adds between 0 (alike) and 1 to a distance.

    A quantity counts by its rank among reference values, so that tails weigh no more than their rows. Where one of two
    values is missing they are at least 0.5 apart, where both are missing 0.
    """

    columns: Columns
    reference: Floats

    def ranks(self, rows: Floats) -> Floats:
        """Ranks [n, quantities] in [0, 1] among the reference; 0.5 where missing."""
        out = np.full((len(rows), len(quantities(self.columns))), 0.5)
        for index, place in enumerate(quantities(self.columns)):
            known = np.sort(self.reference[~np.isnan(self.reference[:, place]), place])
            present = ~np.isnan(rows[:, place])
            if len(known):
                values = rows[present, place]
                below, within = np.searchsorted(known, values), np.searchsorted(known, values, side="right")
                out[present, index] = (below + within) / (2 * len(known))
        return out

    def nearest(self, rows: Floats, *others: Floats) -> list[tuple[Floats, NDArray[np.int64]]]:
        """The distance [n] of each row to the nearest row of each of the other matrices, and its place [n] there."""
        found = []
        for other in others:
            parts = [(part.min(axis=1), part.argmin(axis=1)) for part in self._distances(rows, other)]
            distances, places = zip(*parts, strict=True)
            found.append((np.concatenate(distances), np.concatenate(places)))
        return found

    def neighbours(self, rows: Floats, count: int) -> NDArray[np.int64]:
        """The places [n, count] of the reference rows nearest to each row, the nearest first."""
        parts = self._distances(rows, self.reference)
        return np.concatenate([part.argsort(axis=1, kind="stable")[:, :count] for part in parts])

    def _distances(self, rows: Floats, others: Floats) -> Iterator[Floats]:
        """Distances [n, m], some rows at a time."""
        own, other = self._point(rows), self._point(others)
        for start in range(0, len(rows), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            alike = (own.marks[part] * own.weights) @ other.marks.T
            yield cdist(own.ranks[part], other.ranks, "cityblock") + own.weight - alike

    def _point(self, rows: Floats) -> _Points:
        marks = [one_hot(labels(rows[:, place], count), count + 1) for place, count in categories(self.columns).items()]
        flags = [one_hot(np.isnan(rows[:, place]).astype(np.int64), 2) for place in quantities(self.columns)]
        weights = [np.full(mark.shape[1], 1.0) for mark in marks] + [np.full(2, 0.5) for _ in flags]
        weight = len(marks) + len(flags) / 2
        return _Points(self.ranks(rows), np.concatenate(marks + flags, axis=1), np.concatenate(weights), weight)


@dataclass(frozen=True)
class _Points:
    """Rows in a space: ranks [n, quantities], indicators [n, i] with their weights [i], and all a row's weight."""

    ranks: Floats
    marks: Floats
    weights: Floats
    weight: float
