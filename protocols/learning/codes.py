"""The two kinds of code that a column can have: a codeword on a sphere for a label, a normal score for a quantity.

Both are fitted on private values *without* differential privacy, and decoding a score emits values close to those:
they never leave the silo that fitted them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from protocols.learning.rows import spans

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

KNOTS = 1000
"""Quantiles kept of a quantity: a value comes back exactly only where it fills the space between two of them."""

CLIP = 4.0
"""Normal scores end here; one value in 16,000 lies beyond."""

MIDDLE = 0.5
"""The part of its cell over which a value on a grid, or one that repeats, is spread: what a sampler smears over a
cell's edge falls into the gap."""

TRUST = 50
"""Samples from which their ranks count more than their scores: the ranks of a few samples say little."""


@dataclass(frozen=True)
class Book:
    """The codewords [labels, width] of some labels, and the share [labels] of the fitted values that hold each.

    Codewords lie apart on a sphere of radius sqrt(width), so that a dimension of a label weighs as much as a normal
    score. Who does not know the book sees points without labels.
    """

    codewords: Floats
    shares: Floats

    @classmethod
    def fit(cls, labels: Labels, count: int, rng: np.random.Generator) -> Book:
        """Draw codewords for `count` labels, and count how often `labels` [n >= 1] holds each."""
        return cls(spread(count, rng), np.bincount(labels, minlength=count) / len(labels))

    @property
    def width(self) -> int:
        """Dimensions that a label takes."""
        return self.codewords.shape[1]

    def encode(self, labels: Labels) -> Floats:
        """Codes [n, width] of labels [n]."""
        return np.asarray(self.codewords[labels])

    def decode(self, codes: Floats) -> Labels:
        """Labels [n] of the codewords nearest to codes [n, width]; one that no fitted value held never comes back."""
        labels = np.empty(len(codes), dtype=np.int64)
        for span in spans(len(codes)):
            nearness = codes[span] @ self.codewords.T  # all codewords are equally long
            labels[span] = np.where(self.shares > 0, nearness, -np.inf).argmax(axis=1)
        return labels


@dataclass(frozen=True)
class Scores:
    """The map between values and normal scores, by way of the quantiles [knots] of the fitted values.

    A value on a public grid is spread over the middle of its cell when it is scored, and rounded to the grid after;
    off a grid, a value that repeats is spread over the middle of its quantiles. So no score is crowded, and spikes
    come back as spikes.

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
    def fit(cls, values: Floats, step: float, low: float, high: float, rng: np.random.Generator) -> Scores:
        """Fit to values [n]; where there is none, the public bounds stand in."""
        values = _jitter(values, step, rng) if len(values) else np.array([low, high])
        # two values for each quantile at least: few rows are not simply written down
        count = min(KNOTS, max(2, len(values) // 2))
        return cls(np.quantile(values, np.linspace(0, 1, count)), step, low, high)

    def encode(self, values: Floats, rng: np.random.Generator) -> Floats:
        """Scores [n] of values [n]; what lies outside the fitted values scores as the outermost of them."""
        levels = np.linspace(0, 1, len(self.quantiles))
        # of quantiles that repeat numpy answers the last
        upper = np.interp(values + self.step / 2, self.quantiles, levels)
        lower = np.interp(-values + self.step / 2, -self.quantiles[::-1], levels[::-1])
        middle, room = (lower + upper) / 2, MIDDLE * (upper - lower)
        return np.asarray(np.clip(ndtri(middle + room * (rng.random(len(values)) - 0.5)), -CLIP, CLIP))

    def decode(self, scores: Floats) -> Floats:
        """Values [n] of sampled scores [n], on the grid and within the bounds.

        A sampler's scores are never quite normal. Their ranks are, so the values are read off at the ranks: the
        column comes out distributed as it was fitted, its order untouched.
        """
        ranks = rankdata(scores, method="ordinal") - 0.5
        levels = (ranks + TRUST * ndtr(scores)) / (len(scores) + TRUST)
        values = np.interp(levels, np.linspace(0, 1, len(self.quantiles)), self.quantiles)
        return on_grid(values, self.step, self.low, self.high)


def on_grid(values: Floats, step: float, low: float, high: float) -> Floats:
    """The values [n] rounded to the grid of this step (0: none), within the bounds."""
    if step:
        cells = np.clip(np.round(values / step), np.ceil(low / step), np.floor(high / step))
        # 3 * 0.1 is not 0.3: keep the decimals that the step has
        values = np.round(cells * step, -int(Decimal(repr(step)).as_tuple().exponent))
    return np.asarray(np.clip(values, low, high))


def random_rotation(width: int, rng: np.random.Generator) -> Floats:
    """An orthogonal matrix [width, width], uniform over all of them."""
    # so is QR of a normal matrix with R's diagonal positive (Mezzadri 2007)
    q, r = np.linalg.qr(rng.standard_normal((width, width)))
    return np.asarray(q * np.sign(np.diag(r)))


def side_by_side(widths: Mapping[str, int]) -> dict[str, slice]:
    """The dimensions of columns so many dimensions wide each, one after the other."""
    ends = np.cumsum(list(widths.values())).tolist()
    return dict(zip(widths, map(slice, [0, *ends], ends), strict=False))


def book_width(labels: int) -> int:
    """Dimensions that one of so many labels takes: enough to keep their codewords well apart."""
    return 1 if labels <= 2 else min(8, math.ceil(math.log2(labels)) + 1)


def spread(count: int, rng: np.random.Generator) -> Floats:
    """Codewords [count, width] spread over the sphere of radius sqrt(width) by mutual repulsion."""
    width = book_width(count)
    if count <= 2:
        return np.array([[1.0], [-1.0]])[:count] * float(rng.choice([-1.0, 1.0]))
    words: Floats = rng.standard_normal((count, width))
    for stride in np.linspace(0.3, 0.01, 100):
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        push = 1 / np.maximum(2 - 2 * words @ words.T, 1e-6) ** 2
        np.fill_diagonal(push, 0)
        force = words * push.sum(axis=1, keepdims=True) - push @ words
        force -= words * (force * words).sum(axis=1, keepdims=True)  # along the sphere only
        words += stride * force / max(np.linalg.norm(force, axis=1).max(), 1e-12)
    return np.asarray(words / np.linalg.norm(words, axis=1, keepdims=True) * math.sqrt(width))


def _jitter(values: Floats, step: float, rng: np.random.Generator) -> Floats:
    return np.asarray(values + step * (rng.random(len(values)) - 0.5))
