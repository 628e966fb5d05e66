"""Between a table and a matrix of codes: what went in comes back in type, bounds, grid and categories.

A number or date becomes its normal score, a category a codeword, and so does a quantity that can only have a few
values: what else it has to agree with (degrees with years of schooling) it then hits or misses by a whole label, where
a score just over the edge of its cell would be off by one unnoticed. A missing value is one category more, or beside a
number a flag, so that missingness is learnt like any other information. How wide the codes are follows from the
public schema alone. A codec holds what it learnt from private rows and never leaves the silo that fitted it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.codes import CLIP, Book, Floats, Labels, Scores, on_grid, side_by_side
from protocols.learning.rows import Rows
from protocols.learning.schema import Category, Column, Columns, Date, Integer, Number, Text
from services.errors import DataError

Quantity = Number | Integer | Date


FEW = 20
"""So many values at most, by its public grid and bounds, and a quantity is coded as labels."""


@dataclass(frozen=True)
class LabelCodec:
    """The codes of a category, or of a quantity of few values: its label's codeword; missing is one label more."""

    column: Category | Quantity
    book: Book

    @classmethod
    def fit(cls, values: pd.Series, column: Category | Quantity, rng: np.random.Generator) -> LabelCodec:
        """Draw a book for the labels that the schema allows, observed or not."""
        return cls(column, Book.fit(_labels(values, column), label_count(column), rng))

    @property
    def width(self) -> int:
        """Dimensions of a value's codes."""
        return self.book.width

    def encode(self, values: pd.Series, _rng: np.random.Generator) -> Floats:
        """Codes [n, width] of values [n]."""
        return self.book.encode(_labels(values, self.column))

    def decode(self, codes: Floats) -> pd.Series:
        """Values [n] of codes [n, width]."""
        labels = self.book.decode(codes)
        if isinstance(self.column, Category):
            return as_categories(labels, self.column)
        step, low, high = grid(self.column)
        values = on_grid((math.ceil(low / step) + labels) * step, step, low, high)
        return as_values(np.where(labels < levels(self.column), values, np.nan), self.column)


@dataclass(frozen=True)
class QuantityCodec:
    """A quantity's codes: its score, and the flag's codeword where a value may be missing."""

    column: Quantity
    scores: Scores
    flag: Book | None = None

    @classmethod
    def fit(cls, values: pd.Series, column: Quantity, rng: np.random.Generator) -> QuantityCodec:
        """Fit the quantiles of the values there are, and how often one is missing."""
        numbers, missing = as_numbers(values, column)
        flag = Book.fit(missing.astype(np.int64), 2, rng) if column.missing else None
        return cls(column, Scores.fit(numbers[~missing], *grid(column), rng), flag)

    @property
    def width(self) -> int:
        """Dimensions of a value's codes."""
        return 1 + (self.flag.width if self.flag else 0)

    def encode(self, values: pd.Series, rng: np.random.Generator) -> Floats:
        """Codes [n, width] of values [n]."""
        numbers, missing = as_numbers(values, self.column)
        # where the value is missing its score is drawn from all scores: only the flag tells
        scores = np.clip(rng.standard_normal(len(numbers)), -CLIP, CLIP)
        scores[~missing] = self.scores.encode(numbers[~missing], rng)
        if self.flag is None:
            return scores[:, None]
        return np.column_stack([scores, self.flag.encode(missing.astype(np.int64))])

    def decode(self, codes: Floats) -> pd.Series:
        """Values [n] of codes [n, width]."""
        present = self.flag.decode(codes[:, 1:]) == 0 if self.flag else np.full(len(codes), fill_value=True)
        numbers = np.full(len(codes), np.nan)
        numbers[present] = self.scores.decode(codes[present, 0])
        return as_values(numbers, self.column)


@dataclass(frozen=True)
class Codec:
    """The codes of a whole table, column by column in the schema's order."""

    parts: Mapping[str, LabelCodec | QuantityCodec]

    @classmethod
    def fit(cls, table: Rows, columns: Columns, rng: np.random.Generator) -> Codec:
        """Fit to training rows, a column at a time.

        Args:
            table: the training rows [n >= 1].
            columns: the public schema.
            rng: draws codewords and places within grid cells.

        Raises:
            DataError: a value is missing where the schema does not allow it.
        """
        return cls({name: _fit(table[name], column, rng) for name, column in columns.items()})

    @property
    def columns(self) -> Columns:
        """The public schema."""
        return {name: part.column for name, part in self.parts.items()}

    @property
    def width(self) -> int:
        """Dimensions of a row's codes."""
        return sum(part.width for part in self.parts.values())

    def encode(self, table: pd.DataFrame, rng: np.random.Generator) -> Floats:
        """Codes [n, width] of a table in canonical types.

        Raises:
            DataError: a value is missing where the schema does not allow it.
        """
        return np.concatenate([part.encode(table[name], rng) for name, part in self.parts.items()], axis=1)

    def decode(self, codes: Floats) -> pd.DataFrame:
        """The table in canonical types that sampled codes [n, width] stand for; any finite numbers will do.

        Decode a sample as a whole: the distribution of a quantity over all its rows is brought to the fitted one.
        """
        return pd.DataFrame({name: self.parts[name].decode(codes[:, where]) for name, where in self.places().items()})

    def places(self) -> dict[str, slice]:
        """Which dimensions of a row's codes are a column's."""
        return side_by_side({name: part.width for name, part in self.parts.items()})

    def words(self) -> dict[str, Floats]:
        """The codewords [labels, width] of the blocks that `protocols.learning.layout` names."""
        return {name: book.codewords for name, book in self._books().items()}

    def tensors(self) -> dict[str, Floats]:
        """All that was fitted, by the column's place in the schema."""
        out: dict[str, Floats] = {}
        books = self._books()
        for index, (name, part) in enumerate(self.parts.items()):
            if isinstance(part, QuantityCodec):
                out[f"{index}.quantiles"] = part.scores.quantiles
            if name in books:
                out[f"{index}.codewords"], out[f"{index}.shares"] = books[name].codewords, books[name].shares
        return out

    def _books(self) -> dict[str, Book]:
        found = {name: p.book if isinstance(p, LabelCodec) else p.flag for name, p in self.parts.items()}
        return {name: book for name, book in found.items() if book is not None}

    @classmethod
    def restore(cls, columns: Columns, tensors: Mapping[str, Floats]) -> Codec:
        """The codec for `columns` whose `tensors` these are."""
        parts: dict[str, LabelCodec | QuantityCodec] = {}
        for index, (name, column) in enumerate(columns.items()):
            words = f"{index}.codewords"
            books = [Book(tensors[words], tensors[f"{index}.shares"])] if words in tensors else []
            if isinstance(column, Text):
                continue
            if isinstance(column, Category) or label_count(column):
                parts[name] = LabelCodec(column, *books)
            else:
                parts[name] = QuantityCodec(column, Scores(tensors[f"{index}.quantiles"], *grid(column)), *books)
        return cls(parts)


def _fit(values: pd.Series, column: Column, rng: np.random.Generator) -> LabelCodec | QuantityCodec:
    if isinstance(column, Text):
        raise DataError("free text cannot be synthesised", fix="leave the column out")
    if isinstance(column, Category) or label_count(column):
        return LabelCodec.fit(values, column, rng)
    return QuantityCodec.fit(values, column, rng)


def levels(column: Quantity) -> float:
    """How many values the public grid and bounds of a quantity allow."""
    step, low, high = grid(column)
    return math.floor(high / step) - math.ceil(low / step) + 1 if step else math.inf


def label_count(column: Column) -> int:
    """How many labels a column is coded in, with that for a missing value; 0 for one that has scores."""
    if isinstance(column, Category):
        return len(column.categories) + column.missing
    if isinstance(column, Text) or levels(column) > FEW:
        return 0
    return int(levels(column)) + column.missing


def grid(column: Quantity) -> tuple[float, float, float]:
    """The public step (0: none) and bounds of a quantity; a date counts days since 1970."""
    if isinstance(column, Date):
        return 1.0, float(np.datetime64(column.min).astype(int)), float(np.datetime64(column.max).astype(int))
    step = 1.0 if isinstance(column, Integer) else column.step or 0.0
    return step, float(column.min), float(column.max)


def _labels(values: pd.Series, column: Category | Quantity) -> Labels:
    if isinstance(column, Category):
        return as_labels(values, column)
    numbers, missing = as_numbers(values, column)
    step, low, _ = grid(column)
    places = np.round(np.where(missing, low, numbers) / step) - math.ceil(low / step)
    return np.where(missing, int(levels(column)), places).astype(np.int64)


def as_labels(values: pd.Series, column: Category) -> Labels:
    """Places [n] among the declared categories; a missing value stands after them."""
    labels = values.cat.codes.to_numpy(np.int64)
    return np.where(_missing(labels < 0, column), len(column.categories), labels)


def as_categories(labels: NDArray[np.integer[Any]], column: Category) -> pd.Series:
    """The canonical values [n] at places [n] among the declared categories, absent at any other; undoes `as_labels`."""
    known = np.where(labels < len(column.categories), labels, -1)
    return pd.Series(pd.Categorical.from_codes(known, dtype=pd.CategoricalDtype(list(column.categories))))


def as_numbers(values: pd.Series, column: Quantity) -> tuple[Floats, NDArray[np.bool_]]:
    """Values [n] as numbers, dates as days since 1970, and which of them are missing."""
    if isinstance(column, Date):
        values = (values - pd.Timestamp(0)).dt.days
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    return numbers, _missing(np.isnan(numbers), column)


def as_values(numbers: Floats, column: Quantity) -> pd.Series:
    """The canonical values [n] of numbers [n], absent where they are NaN; undoes `as_numbers`."""
    values = pd.Series(numbers)
    if isinstance(column, Integer):
        return values.astype("Int64")
    if isinstance(column, Date):
        return pd.to_datetime(values, unit="D").astype("datetime64[s]")
    return values


def _missing(missing: NDArray[np.bool_], column: Column) -> NDArray[np.bool_]:
    if missing.any() and not column.missing:
        raise DataError(f"{int(missing.sum())} of {len(missing)} values are missing, which the schema does not allow")
    return missing
