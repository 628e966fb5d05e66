"""Quantities as few numbers: neighbours in the schema averaged into blocks, on a public scale, and back again.

A quantity is seen at z in [-1, 1]; a block's value is the mean z of its columns. Within a block the columns keep their
own level, and move together. A quantity that may be missing counts as the middle of its bounds, and its flag is a
category of two. All of this is public; what is computed of rows here is private, and of released sums, public.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from protocols.learning.codes import Floats, Labels
from protocols.learning.schema import Columns
from protocols.sgde.families.scale import Layout, layout
from protocols.sgde.parameters import SgdeParameters

REACH = 0.5
"""A record's blocks are clipped at this part of the greatest norm they could have."""

LEAST, FLOOR = 0.05, 0.1
"""Blocks spread by this much at least; no axis by less than this part of the average variance."""


@dataclass(frozen=True)
class Blocks:
    """A run's columns as blocks and categories, all public.

    Attributes:
        layout: the columns.
        places: for each block its quantities' places among `layout.scales`.
    """

    layout: Layout
    places: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, columns: Columns, parameters: SgdeParameters) -> Blocks:
        """Take a checked schema apart into at most `dimensions` blocks."""
        parts = layout(columns, parameters)
        count = min(parameters.dimensions, len(parts.scales))
        blocks = [tuple(map(int, b)) for b in np.array_split(np.arange(len(parts.scales)), count)] if count else []
        return cls(parts, tuple(blocks))

    @property
    def radius(self) -> float:
        """The norm that a record's blocks are clipped to."""
        return REACH * math.sqrt(max(1, len(self.places)))

    @property
    def flags(self) -> tuple[int, ...]:
        """Places of the quantities that may be missing: each is a category of two beside its quantity."""
        return tuple(i for i, scale in enumerate(self.layout.scales) if scale.column.missing)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Places of each category, and of each flag."""
        return (*(choice.size for choice in self.layout.choices), *(2 for _ in self.flags))

    def see(self, table: pd.DataFrame) -> tuple[Floats, Floats]:
        """A table's quantities z [n, d], and indicators [n, sum of sizes] of its categories and flags."""
        pairs = [scale.units(table) for scale in self.layout.scales]
        z = np.column_stack([np.empty((len(table), 0)), *(2 * units - 1 for units, _ in pairs)])
        chosen = [np.eye(choice.size)[choice.places(table)] for choice in self.layout.choices]
        chosen += [np.eye(2)[pairs[i][1].astype(int)] for i in self.flags]
        return z, np.column_stack([np.empty((len(table), 0)), *chosen])

    def average(self, z: Floats) -> Floats:
        """Blocks [n, m] of quantities [n, d]."""
        return np.column_stack([np.empty((len(z), 0)), *(z[:, block].mean(axis=1) for block in self.places)])

    def spread_out(self, blocks: Floats, levels: Floats, spread: float, rng: np.random.Generator) -> Floats:
        """Quantities [n, d], of any size, whose averages are blocks [n, m]; within a block around levels [d]."""
        z = np.empty((len(blocks), len(levels)))
        for at, block in zip(blocks.T, self.places, strict=True):
            around = rng.standard_normal((len(blocks), len(block))) * spread
            z[:, list(block)] = at[:, None] + levels[list(block)] + around - around.mean(axis=1, keepdims=True)
        return z

    def levels(self, means: Floats, noise: float) -> Floats:
        """How far columns [d] lie from their block's mean, of noisy means [d]; drawn to 0 by what noise explains."""
        own = np.zeros(len(means))
        for block in self.places:
            if len(block) > 1:
                apart = means[list(block)] - means[list(block)].mean()
                keep = max(0.0, 1 - (len(block) - 1) * noise**2 / max(float(apart @ apart), 1e-12))
                own[list(block)] = keep * apart
        return own

    def rows(self, columns: Columns, labels: Labels, z: Floats, chosen: Sequence[Labels]) -> pd.DataFrame:
        """A table in the schema's types of classes [n], quantities [n, d], and each category's and flag's places."""
        parts = self.layout
        values: dict[str, pd.Series] = {parts.label.name: parts.label.values(labels)}
        for choice, at in zip(parts.choices, chosen, strict=False):
            values[choice.name] = choice.values(at)
        gaps = dict(zip(self.flags, chosen[len(parts.choices) :], strict=True))
        for i, scale in enumerate(parts.scales):
            missing = gaps[i] == 1 if i in gaps else np.zeros(len(labels), bool)
            values[scale.name] = scale.values((z[:, i] + 1) / 2, missing)
        return pd.DataFrame({name: values[name] for name in columns})


def triangle(rows: Floats) -> Floats:
    """The sum of r rᵀ over rows [n, m], its upper triangle with the off-diagonal times √2: of norm ‖r‖² for each."""
    upper = np.triu_indices(rows.shape[1])
    return np.asarray((rows.T @ rows)[upper] * np.where(upper[0] == upper[1], 1, math.sqrt(2)))


def square(part: Floats, m: int) -> Floats:
    """The symmetric matrix [m, m] of such a triangle."""
    upper = np.triu_indices(m)
    matrix = np.zeros((m, m))
    matrix[upper] = part / np.where(upper[0] == upper[1], 1, math.sqrt(2))
    return matrix + np.triu(matrix, 1).T


def covariance(noisy: Floats, noise: float, radius: float, least: float = LEAST) -> tuple[Floats, float]:
    """A covariance [m, m] from a noisy one, and the blocks' spread.

    It is drawn to the multiple of the identity of the same trace, by as much as noise explains (Ledoit and Wolf,
    2004, with the noise known), and its axes stay apart from 0. Where all is noise, axes spread by `least` or more.
    """
    m = len(noisy)
    level = float(np.clip(np.trace(noisy) / m, LEAST**2, REACH**2))
    drawn_to = max(level, least**2) * np.eye(m)
    excess = noisy - drawn_to
    # of a symmetric matrix's entries, those off the diagonal carry half the noise's variance, twice
    explained = noise**2 * m * (m + 1) / 2
    excess *= max(0.0, 1 - explained / max(float((excess**2).sum()), 1e-12))
    size, axes = np.linalg.eigh(drawn_to + excess)
    return (axes * np.clip(size, FLOOR * level, radius**2)) @ axes.T, math.sqrt(level)


def pick(counts: Floats, labels: Labels, sizes: Sequence[int], rng: np.random.Generator) -> list[Labels]:
    """Places [n] of each category, drawn from its noisy counts [c, sum of sizes] in the class of labels [n]."""
    out = []
    for part in np.split(counts, np.cumsum(sizes)[:-1], axis=1) if sizes else []:
        shares = np.maximum(part, 0) + 1e-9
        cumulated = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)[labels]
        out.append((rng.random((len(labels), 1)) > cumulated[:, :-1]).sum(axis=1))
    return out
