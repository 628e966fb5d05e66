"""A schema's columns as numbers, without a look at the data: unit intervals for quantities, places for categories.

What is released under a claim is made of these: nothing here is fitted to rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.codec import (
    Quantity,
    as_categories,
    as_labels,
    as_numbers,
    as_values,
    grid,
    label_count,
    levels,
)
from protocols.learning.codes import Floats, Labels, on_grid
from protocols.learning.schema import Category

_SKEW = 100.0
"""The logarithm of a skewed quantity that may come near 0 begins to bend at a hundredth of its range."""

_APART = 2.0
"""Bounds above 0 that are this many times apart are compared by their ratio; closer ones bend no logarithm."""


@dataclass(frozen=True)
class Scale:
    """The public map between a quantity's values and [0, 1]."""

    name: str
    column: Quantity
    skewed: bool

    @property
    def points(self) -> int | None:
        """How many values the public grid has; None where there is no grid."""
        count = levels(self.column)
        return None if math.isinf(count) else int(count)

    @property
    def _bend(self) -> float:
        _, low, high = grid(self.column)
        # the logarithm of value over lower bound is just this one
        return (high - low) / low if low > 0 and high >= _APART * low else _SKEW

    def units(self, table: pd.DataFrame) -> tuple[Floats, NDArray[np.bool_]]:
        """Places [n] in [0, 1] of a canonical table's values, and which are missing; those lie in the middle."""
        _, low, high = grid(self.column)
        values, missing = as_numbers(table[self.name], self.column)
        units = np.clip((np.where(missing, low, values) - low) / (high - low), 0, 1)
        if self.skewed:
            units = np.log1p(self._bend * units) / np.log1p(self._bend)
        return np.where(missing, 0.5, units), missing

    def values(self, units: Floats, missing: NDArray[np.bool_]) -> pd.Series:
        """The canonical values [n] that lie at any finite places [n], on the grid and within the bounds."""
        step, low, high = grid(self.column)
        units = np.clip(units, 0, 1)
        if self.skewed:
            units = np.expm1(units * np.log1p(self._bend)) / self._bend
        values = on_grid(low + units * (high - low), step, low, high)
        return as_values(np.where(missing, np.nan, values), self.column)


@dataclass(frozen=True)
class Choice:
    """A category as places among its labels; a missing one stands after them."""

    name: str
    column: Category

    @property
    def size(self) -> int:
        """How many places there are."""
        return label_count(self.column)

    def places(self, table: pd.DataFrame) -> Labels:
        """Places [n] of a canonical table's values."""
        return as_labels(table[self.name], self.column)

    def values(self, places: Labels) -> pd.Series:
        """The canonical values [n] at places [n]."""
        return as_categories(places, self.column)


def clipped(rows: Floats, norm: float) -> Floats:
    """Rows [n, width] of at most this norm."""
    return np.asarray(rows * np.minimum(1, norm / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)))
