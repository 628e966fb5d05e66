"""Between a table and a matrix of codes: what went in comes back in type, bounds, grid and categories.

A number becomes one dimension, its normal score. A category becomes a codeword on a sphere. A missing value is one
category more, or beside a number a flag, so that missingness is learnt like any other information. How wide the
codes are follows from the public schema alone.

Quantiles and shares of categories are fitted on private rows *without* differential privacy, and decoding emits
values close to those rows: a codec never leaves the silo that fitted it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from protocols.learning.schema import Category, Column, Columns, Date, Integer, Number, Text
from services.errors import DataError

Floats = NDArray[np.float64]
Quantity = Number | Integer | Date

KNOTS = 1000
"""Quantiles kept of a column: a value comes back exactly only where it fills the space between two of them."""

CLIP = 4.0
"""Normal scores end here; one value in 16,000 lies beyond."""


@dataclass(frozen=True)
class Book:
    """The codewords [labels, width] of some labels, and the share [labels] of the fitted rows that hold each.

    Codewords lie apart on a sphere of radius sqrt(width), so that a dimension of a category weighs as much as a
    normal score. Who does not know the book sees points without labels.
    """

    codewords: Floats
    shares: Floats

    @classmethod
    def fit(cls, labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> Book:
        """Draw codewords for `count` labels, and count how often `labels` [n] holds each."""
        return cls(_spread(count, rng), np.bincount(labels, minlength=count) / len(labels))

    @property
    def width(self) -> int:
        """Dimensions that a label takes."""
        return self.codewords.shape[1]

    def decode(self, codes: Floats) -> NDArray[np.int64]:
        """Labels [n] of the nearest codewords; a label that no fitted row held never comes back."""
        nearness = codes @ self.codewords.T  # all codewords are equally long
        return np.asarray(np.where(self.shares > 0, nearness, -np.inf).argmax(axis=1))


@dataclass(frozen=True)
class Scores:
    """The map between values and normal scores, by way of the quantiles [knots] of the fitted values.

    A value on a public grid is spread evenly over its cell before it is scored, and rounded to the grid after;
    off a grid, a value that repeats is spread over all of its quantiles. So no score is crowded, and spikes come
    back as spikes.

    Attributes:
        step: the grid's step; 0 where there is none.
        low: the public lower bound.
        high: the public upper bound.
    """

    quantiles: Floats
    step: float
    low: float
    high: float

    @classmethod
    def fit(cls, values: Floats, column: Quantity, rng: np.random.Generator) -> Scores:
        """Fit to values [n]; where there is none, the public bounds stand in."""
        step, low, high = _grid(column)
        values = _jitter(values, step, rng) if len(values) else np.array([low, high])
        # two rows for each quantile at least: few rows are not simply written down
        count = min(KNOTS, max(2, len(values) // 2))
        return cls(np.quantile(values, np.linspace(0, 1, count)), step, low, high)

    def encode(self, values: Floats, rng: np.random.Generator) -> Floats:
        """Scores [n] of values [n]; what lies outside the fitted values scores as the outermost of them."""
        values = _jitter(values, self.step, rng)
        levels = np.linspace(0, 1, len(self.quantiles))
        upper = np.interp(values, self.quantiles, levels)  # of quantiles that repeat numpy answers the last
        lower = np.interp(-values, -self.quantiles[::-1], levels[::-1])
        scores: Floats = np.clip(ndtri(lower + (upper - lower) * rng.random(len(values))), -CLIP, CLIP)
        return scores

    def decode(self, scores: Floats) -> Floats:
        """Values [n] of scores [n], on the grid and within the bounds."""
        values = np.interp(ndtr(scores), np.linspace(0, 1, len(self.quantiles)), self.quantiles)
        if self.step:
            cells = np.clip(
                np.round(values / self.step), np.ceil(self.low / self.step), np.floor(self.high / self.step)
            )
            # 3 * 0.1 is not 0.3: keep the decimals that the step has
            values = np.round(cells * self.step, -int(Decimal(repr(self.step)).as_tuple().exponent))
        bounded: Floats = np.clip(values, self.low, self.high)
        return bounded


@dataclass(frozen=True)
class CategoryCodec:
    """A category's codes: its label's codeword; a missing one is the label after those declared."""

    column: Category
    book: Book

    @classmethod
    def fit(cls, values: pd.Series, column: Category, rng: np.random.Generator) -> CategoryCodec:
        """Draw a book for the declared labels, observed or not."""
        return cls(column, Book.fit(_labels(values, column), len(column.categories) + column.missing, rng))

    @property
    def width(self) -> int:
        """Dimensions of a value's codes."""
        return self.book.width

    def encode(self, values: pd.Series, _rng: np.random.Generator) -> Floats:
        """Codes [n, width] of values [n]."""
        return self.book.codewords[_labels(values, self.column)]

    def decode(self, codes: Floats) -> pd.Series:
        """Values [n] of codes [n, width]."""
        labels = self.book.decode(codes)
        known = np.where(labels < len(self.column.categories), labels, -1)
        return pd.Series(pd.Categorical.from_codes(known, dtype=pd.CategoricalDtype(list(self.column.categories))))


@dataclass(frozen=True)
class QuantityCodec:
    """A quantity's codes: its score, and the flag's codeword where a value may be missing."""

    column: Quantity
    scores: Scores
    flag: Book | None = None

    @classmethod
    def fit(cls, values: pd.Series, column: Quantity, rng: np.random.Generator) -> QuantityCodec:
        """Fit the quantiles of the values there are, and how often one is missing."""
        numbers, missing = _numbers(values, column)
        flag = Book.fit(missing.astype(np.int64), 2, rng) if column.missing else None
        return cls(column, Scores.fit(numbers[~missing], column, rng), flag)

    @property
    def width(self) -> int:
        """Dimensions of a value's codes."""
        return 1 + (self.flag.width if self.flag else 0)

    def encode(self, values: pd.Series, rng: np.random.Generator) -> Floats:
        """Codes [n, width] of values [n]."""
        numbers, missing = _numbers(values, self.column)
        # where the value is missing its score is drawn from all scores: only the flag tells
        scores = np.clip(rng.standard_normal(len(numbers)), -CLIP, CLIP)
        scores[~missing] = self.scores.encode(numbers[~missing], rng)
        if self.flag is None:
            return scores[:, None]
        return np.column_stack([scores, self.flag.codewords[missing.astype(np.int64)]])

    def decode(self, codes: Floats) -> pd.Series:
        """Values [n] of codes [n, width]."""
        numbers = self.scores.decode(codes[:, 0])
        if self.flag is not None:
            numbers[self.flag.decode(codes[:, 1:]) == 1] = np.nan
        values = pd.Series(numbers)
        if isinstance(self.column, Integer):
            return values.astype("Int64")
        if isinstance(self.column, Date):
            return pd.to_datetime(values, unit="D").astype("datetime64[s]")
        return values


@dataclass(frozen=True)
class Codec:
    """The codes of a whole table, column by column in the schema's order."""

    parts: Mapping[str, CategoryCodec | QuantityCodec]

    @classmethod
    def fit(cls, table: pd.DataFrame, columns: Columns, rng: np.random.Generator) -> Codec:
        """Fit to training rows.

        Args:
            table: the training rows [n >= 1] in the canonical types of `table.read_table`.
            columns: the public schema.
            rng: draws codewords and places within grid cells.

        Raises:
            DataError: a value is missing where the schema does not allow it.
        """
        return cls({name: _fit(table[name], column, rng) for name, column in columns.items()})

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
        """The table in canonical types that codes [n, width] stand for; any real numbers will do."""
        ends = np.cumsum([part.width for part in self.parts.values()])
        blocks = np.split(codes, ends[:-1], axis=1)
        return pd.DataFrame({name: part.decode(b) for (name, part), b in zip(self.parts.items(), blocks, strict=True)})

    def tensors(self) -> dict[str, Floats]:
        """All that was fitted, by the column's place in the schema."""
        out: dict[str, Floats] = {}
        for index, part in enumerate(self.parts.values()):
            book = part.book if isinstance(part, CategoryCodec) else part.flag
            if isinstance(part, QuantityCodec):
                out[f"{index}.quantiles"] = part.scores.quantiles
            if book is not None:
                out[f"{index}.codewords"], out[f"{index}.shares"] = book.codewords, book.shares
        return out

    @classmethod
    def restore(cls, columns: Columns, tensors: Mapping[str, Floats]) -> Codec:
        """The codec for `columns` whose `tensors` these are."""
        parts: dict[str, CategoryCodec | QuantityCodec] = {}
        for index, (name, column) in enumerate(columns.items()):
            words = f"{index}.codewords"
            books = [Book(tensors[words], tensors[f"{index}.shares"])] if words in tensors else []
            if isinstance(column, Category):
                parts[name] = CategoryCodec(column, *books)
            elif not isinstance(column, Text):
                parts[name] = QuantityCodec(column, Scores(tensors[f"{index}.quantiles"], *_grid(column)), *books)
        return cls(parts)


def _fit(values: pd.Series, column: Column, rng: np.random.Generator) -> CategoryCodec | QuantityCodec:
    if isinstance(column, Text):
        raise DataError("free text cannot be synthesised", fix="leave the column out")
    if isinstance(column, Category):
        return CategoryCodec.fit(values, column, rng)
    return QuantityCodec.fit(values, column, rng)


def _spread(count: int, rng: np.random.Generator) -> Floats:
    """Codewords [count, width] spread over the sphere of radius sqrt(width) by mutual repulsion."""
    if count <= 2:
        return np.array([[1.0], [-1.0]])[:count] * float(rng.choice([-1.0, 1.0]))
    width = min(8, math.ceil(math.log2(count)) + 1)
    words: Floats = rng.standard_normal((count, width))
    for stride in np.linspace(0.3, 0.01, 100):
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        push = 1 / np.maximum(2 - 2 * words @ words.T, 1e-6) ** 2
        np.fill_diagonal(push, 0)
        force = words * push.sum(axis=1, keepdims=True) - push @ words
        force -= words * (force * words).sum(axis=1, keepdims=True)  # along the sphere only
        words += stride * force / max(np.linalg.norm(force, axis=1).max(), 1e-12)
    return np.asarray(words / np.linalg.norm(words, axis=1, keepdims=True) * math.sqrt(width))


def _grid(column: Quantity) -> tuple[float, float, float]:
    """The public step (0: none) and bounds of a quantity; a date counts days since 1970."""
    if isinstance(column, Date):
        return 1.0, float(np.datetime64(column.min).astype(int)), float(np.datetime64(column.max).astype(int))
    step = 1.0 if isinstance(column, Integer) else column.step or 0.0
    return step, float(column.min), float(column.max)


def _jitter(values: Floats, step: float, rng: np.random.Generator) -> Floats:
    return np.asarray(values + step * (rng.random(len(values)) - 0.5))


def _labels(values: pd.Series, column: Category) -> NDArray[np.int64]:
    """Places [n] among the declared categories; a missing value stands after them."""
    labels = values.cat.codes.to_numpy(np.int64)
    return np.where(_missing(labels < 0, column), len(column.categories), labels)


def _numbers(values: pd.Series, column: Quantity) -> tuple[Floats, NDArray[np.bool_]]:
    """Values [n] as numbers, dates as days since 1970, and which of them are missing."""
    if isinstance(column, Date):
        values = (values - pd.Timestamp(0)).dt.days
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    return numbers, _missing(np.isnan(numbers), column)


def _missing(missing: NDArray[np.bool_], column: Column) -> NDArray[np.bool_]:
    if missing.any() and not column.missing:
        raise DataError(f"{int(missing.sum())} of {len(missing)} values are missing, which the schema does not allow")
    return missing
