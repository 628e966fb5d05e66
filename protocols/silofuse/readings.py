"""How a silo reads latents that were made under noise: with what it alone knows of its own training rows.

Of noised codes only the order tells anything. Sampled quantities are read off the silo's own quantiles at their ranks;
labels, and what is missing, are dealt out in the silo's own shares. So every column keeps its distribution whatever
the noise was, and it is relations that noise costs. What is read off was never covered by noise: the decoded table is
*not* differentially private, and stays with the silo as any other does.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from protocols.learning.codec import as_labels, as_numbers, as_values, grid
from protocols.learning.codes import Floats, Labels, Scores
from protocols.learning.rows import Rows, spans
from protocols.learning.scale import Choice, Scale
from protocols.learning.schema import Category, Columns
from protocols.silofuse.noised import Encoder

_FLAGS = np.array([[-1.0], [1.0]])


@dataclass(frozen=True)
class QuantityReading:
    """A quantity's own quantiles, and the share of its values that is missing."""

    scale: Scale
    quantiles: Scores
    missing: float

    def decode(self, codes: Floats) -> pd.Series:
        """Values [n] of codes [n, 1], or [n, 2] where the second says what is missing."""
        absent = np.zeros(len(codes), dtype=np.bool_)
        if self.scale.column.missing:
            absent = dealt(codes[:, 1:], _FLAGS, np.array([1 - self.missing, self.missing])) == 1
        numbers = np.full(len(codes), np.nan)
        numbers[~absent] = self.quantiles.decode(_scores(codes[~absent, 0]))
        return as_values(numbers, self.scale.column)


@dataclass(frozen=True)
class CategoryReading:
    """A category's own shares of labels."""

    choice: Choice
    words: Floats
    shares: Floats

    def decode(self, codes: Floats) -> pd.Series:
        """Values [n] of codes [n, width]."""
        return self.choice.values(dealt(codes, self.words, self.shares))


@dataclass(frozen=True)
class Readings:
    """What a silo knows of its columns, and never sends; a `streams.Decoder`."""

    encoder: Encoder
    parts: Mapping[str, QuantityReading | CategoryReading]

    @classmethod
    def of(cls, encoder: Encoder, table: Rows) -> Readings:
        """Look at the training rows [n >= 1], a column at a time."""
        rng = np.random.default_rng(secrets.randbits(256))
        parts = {name: _reading(encoder, name, table[name], rng) for name in encoder.columns}
        return cls(encoder, parts)

    @property
    def codec(self) -> Readings:
        """What `streams.decode` reads codes with."""
        return self

    @property
    def columns(self) -> Columns:
        """The public schema."""
        return self.encoder.columns

    def places(self) -> dict[str, slice]:
        """Which dimensions of a row's codes are a column's."""
        return self.encoder.places()

    def codes(self, latents: NDArray[np.float32], _: int = 0) -> Floats:
        """The codes [n, width] that a block of latents [n, width] stands for, noise and all."""
        return self.encoder.codes(latents)

    def decode(self, latents: NDArray[np.float32]) -> pd.DataFrame:
        """The table in canonical types that sampled latents [n, width] stand for; any finite numbers will do.

        Decode a sample as a whole: it is the ranks within it that are read off.
        """
        codes = self.codes(latents)
        return pd.DataFrame({name: self.parts[name].decode(codes[:, where]) for name, where in self.places().items()})


def dealt(codes: Floats, words: Floats, shares: Floats) -> Labels:
    """Labels [n] in the given shares: each goes to the rows nearest to it that are left, the rarest label first.

    Args:
        codes: [n, width], of any size.
        words: the labels' codewords [labels, width], all of one norm.
        shares: [labels], which sum to 1.
    """
    most = np.diff(np.round(np.cumsum(shares) * len(codes)).astype(int), prepend=0)
    *rare, last = np.argsort(most, kind="stable")
    labels = np.full(len(codes), last, dtype=np.int64)
    best, rivals = _nearest(codes, words)
    left = np.arange(len(codes))
    for label in rare:
        if not most[label]:
            continue
        other = np.where(best[left] == label, rivals[left, 1], rivals[left, 0])
        order = np.argsort(other - codes[left] @ words[label], kind="stable")
        labels[left[order[: most[label]]]] = label
        left = np.sort(left[order[most[label] :]])
    return labels


def _nearest(codes: Floats, words: Floats) -> tuple[Labels, Floats]:
    """The label [n] nearest to each row, and how near the nearest two are [n, 2]."""
    best, near = np.zeros(len(codes), dtype=np.int64), np.zeros((len(codes), 2))
    for span in spans(len(codes)):
        nearness = codes[span] @ words.T
        best[span] = nearness.argmax(axis=1)
        near[span] = np.sort(nearness, axis=1)[:, ::-1][:, [0, min(1, len(words) - 1)]]
    return best, near


def _reading(
    encoder: Encoder, name: str, values: pd.Series, rng: np.random.Generator
) -> QuantityReading | CategoryReading:
    column = encoder.columns[name]
    if isinstance(column, Category):
        choice = Choice(name, column)
        shares = np.bincount(as_labels(values, column), minlength=choice.size) / len(values)
        return CategoryReading(choice, encoder.words[name], shares)
    scale = encoder.scale(name)
    numbers, missing = as_numbers(values, scale.column)
    return QuantityReading(scale, Scores.fit(numbers[~missing], *grid(scale.column), rng), float(missing.mean()))


def _scores(values: Floats) -> Floats:
    """The normal scores [n] of values' ranks, from which `Scores` reads the same ranks again."""
    return np.asarray(ndtri((rankdata(values, method="ordinal") - 0.5) / len(values))) if len(values) else values
