"""Class-conditional Gaussians from noisy sums: the strongest form where a silo has few rows and mostly quantities.

Quantities are seen on their public scale as z in [-1, 1]; neighbours in the schema are averaged into at most
`dimensions` blocks, and a record's blocks b are clipped to a public norm R. One Gaussian mechanism releases, for each
class, how many records there are, the sum of b, and how often each category occurs; and over all classes the sums of
b bᵀ and, where blocks hold several columns, of z. Rows of a class are drawn from a Gaussian with the class's mean and
the covariance that all classes share; within a block the columns keep their own level, and move together. Categories
are drawn from their shares in the class.

*Sensitivity.* A record of class y adds to the statistic one vector, of five parts whose squared norms are at most
the shares s that `SHARES` comes to, which sum to 1:
the class's indicator, of norm 1, times √s₁; b in the class's place, of norm at most R, times √s₂/R; the upper
triangle of b bᵀ with the off-diagonal times √2, of norm ‖b‖² <= R², times √s₃/R²; z, each of d coordinates at most 1,
times √(s₄/d); k indicators of categories in the class's place, of norm √k, times √(s₅/k). So adding
or removing one record moves the statistic by at most 1 in L2, which is what the event's noise multiplier refers to.
Nothing else is computed from the rows: numbers of rows are noisy sums, and what is missing counts as the middle of its
bounds and, in a category beside it, as missing.

Sums of several generators add up, so a pool is as good as one generator of all the rows with the noise of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from protocols.learning.codes import Floats, Labels
from protocols.learning.noise import Noise
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec
from protocols.sgde.families.contract import Tensors, affordable
from protocols.sgde.families.scale import Layout, layout
from protocols.sgde.parameters import SgdeParameters
from services.contract import ProgressCallback
from services.mechanism import Event, Gaussian, Mechanism

REACH = 0.5
"""A record's blocks are clipped at this part of the greatest norm they could have."""


LEAST, FLOOR = 0.05, 0.1
"""Blocks spread within a class by this much at least; no axis by less than this part of the average variance."""

SHARES = {"count": 0.2, "sums": 0.5, "squares": 0.25, "columns": 0.05}
"""Of the squared sensitivity, what each part on quantities gets; categories get as much as columns are categories."""


def _gaussian(scale: float) -> Event:
    return Gaussian(noise_multiplier=scale)


def _multiplier(parameters: SgdeParameters) -> float:
    event = affordable(_gaussian, parameters)
    assert isinstance(event, Gaussian)  # noqa: S101 - what _gaussian makes
    return event.noise_multiplier


@dataclass(frozen=True)
class _Shape:
    """Sizes of the statistic's parts, all public."""

    layout: Layout
    blocks: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, columns: Columns, parameters: SgdeParameters) -> _Shape:
        parts = layout(columns, parameters)
        count = min(parameters.dimensions, len(parts.scales))
        blocks = [tuple(map(int, b)) for b in np.array_split(np.arange(len(parts.scales)), count)] if count else []
        return cls(parts, tuple(blocks))

    @property
    def radius(self) -> float:
        return REACH * math.sqrt(max(1, len(self.blocks)))

    @property
    def flags(self) -> tuple[int, ...]:
        """Places of the quantities that may be missing: each is a category of two beside its quantity."""
        return tuple(i for i, scale in enumerate(self.layout.scales) if scale.column.missing)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Places of each category, and of each flag."""
        return (*(choice.size for choice in self.layout.choices), *(2 for _ in self.flags))

    def weights(self) -> dict[str, float]:
        """What each part of a record's vector is multiplied by; see the module's proof."""
        d, k, m = len(self.layout.scales), len(self.sizes), len(self.blocks)
        of_quantities = {"sums": (SHARES["sums"], self.radius), "squares": (SHARES["squares"], self.radius**2)}
        if m < d:
            of_quantities["columns"] = (SHARES["columns"], math.sqrt(d))
        parts = {"count": (SHARES["count"], 1.0)}
        if m:
            parts |= {name: (share * d / (d + k), norm) for name, (share, norm) in of_quantities.items()}
        if k:
            parts["categories"] = (k / (d + k), math.sqrt(k))
        total = sum(share for share, _ in parts.values())
        return {name: math.sqrt(share / total) / norm for name, (share, norm) in parts.items()}

    def expected(self) -> dict[str, tuple[int, ...]]:
        c, m, d = self.layout.classes, len(self.blocks), len(self.layout.scales)
        shapes: dict[str, tuple[int, ...]] = {"count": (c,)}
        if m:
            shapes |= {"sums": (c, m), "squares": (m * (m + 1) // 2,)}
        if m < d:
            shapes["columns"] = (d,)
        if self.sizes:
            shapes["categories"] = (c, sum(self.sizes))
        return shapes


def statistic(table: pd.DataFrame, columns: Columns, parameters: SgdeParameters) -> dict[str, Floats]:
    """The weighted sums without noise, private: of L2 sensitivity 1 under adding or removing a record."""
    shape = _Shape.of(columns, parameters)
    parts, weights = shape.layout, shape.weights()
    indicator = np.eye(parts.classes)[parts.label.places(table)]
    out = {"count": indicator.sum(axis=0)}
    missing: list[Floats] = []
    if shape.blocks:
        pairs = [scale.units(table) for scale in parts.scales]
        z = np.column_stack([2 * units - 1 for units, _ in pairs])
        missing = [np.eye(2)[pairs[i][1].astype(int)] for i in shape.flags]
        b = np.column_stack([z[:, block].mean(axis=1) for block in shape.blocks])
        b *= np.minimum(1, shape.radius / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12))
        upper = np.triu_indices(b.shape[1])
        out["sums"] = indicator.T @ b
        out["squares"] = (b.T @ b)[upper] * np.where(upper[0] == upper[1], 1, math.sqrt(2))
        if b.shape[1] < z.shape[1]:
            out["columns"] = z.sum(axis=0)
    if shape.sizes:
        chosen = [np.eye(choice.size)[choice.places(table)] for choice in parts.choices] + missing
        out["categories"] = indicator.T @ np.concatenate(chosen, axis=1)
    return {name: weights[name] * values for name, values in out.items()}


class Moments:
    """The family; see the module."""

    def mechanism(self, _columns: Columns, parameters: SgdeParameters) -> Mechanism:
        """One Gaussian: a person's vector lies in one class's place, so the classes need no partition."""
        return Mechanism(event=affordable(_gaussian, parameters))

    def fit(
        self,
        table: pd.DataFrame,
        columns: Columns,
        parameters: SgdeParameters,
        noise: Noise,
        progress: ProgressCallback,
    ) -> tuple[Tensors, Event]:
        """Noisy sums."""
        multiplier = _multiplier(parameters)
        sums = statistic(table, columns, parameters)
        noisy = {
            name: (exact + noise.normal(exact.shape, multiplier)).astype(np.float32) for name, exact in sums.items()
        }
        progress("moments", 1, 1, None)
        return noisy, Gaussian(noise_multiplier=multiplier)

    def expected(self, columns: Columns, parameters: SgdeParameters) -> dict[str, TensorSpec]:
        """The weighted sums."""
        shapes = _Shape.of(columns, parameters).expected()
        return {name: TensorSpec("float32", shape) for name, shape in shapes.items()}

    def check(self, columns: Columns, parameters: SgdeParameters, tensors: Tensors) -> None:
        """Any finite numbers will do."""

    def shares(self, columns: Columns, parameters: SgdeParameters, pool: Sequence[Tensors]) -> Floats:
        """Of the noisy counts."""
        counts = np.maximum(_summed(columns, parameters, pool)["count"], 1.0)
        return np.asarray(counts / counts.sum())

    def sample(
        self,
        columns: Columns,
        parameters: SgdeParameters,
        pool: Sequence[Tensors],
        counts: Mapping[str, int],
        rng: np.random.Generator,
    ) -> pd.DataFrame:
        """Rows of the summed pool."""
        shape = _Shape.of(columns, parameters)
        weights, sums = shape.weights(), _summed(columns, parameters, pool)
        spread = _multiplier(parameters) * math.sqrt(len(pool))
        # what lies below its noise divides nothing
        sums["count"] = np.maximum(sums["count"], 1 + spread / weights["count"])
        labels = np.repeat(
            np.arange(shape.layout.classes), [counts.get(c, 0) for c in shape.layout.label.column.categories]
        )
        values: dict[str, pd.Series] = {shape.layout.label.name: shape.layout.label.values(labels)}
        chosen = _categories(sums, shape, labels, rng) if shape.sizes else []
        for choice, places in zip(shape.layout.choices, chosen, strict=False):
            values[choice.name] = choice.values(places)
        if shape.blocks:
            noise = {name: spread / weight for name, weight in weights.items()}
            z = _quantities(sums, noise, shape, labels, rng)
            gaps = dict(zip(shape.flags, chosen[len(shape.layout.choices) :], strict=True))
            for i, scale in enumerate(shape.layout.scales):
                missing = gaps[i] == 1 if i in gaps else np.zeros(len(labels), bool)
                values[scale.name] = scale.values((z[:, i] + 1) / 2, missing)
        return pd.DataFrame({name: values[name] for name in columns})


def _summed(columns: Columns, parameters: SgdeParameters, pool: Sequence[Tensors]) -> dict[str, Floats]:
    """The pool's noisy sums, weights taken off."""
    weights = _Shape.of(columns, parameters).weights()
    return {name: np.sum([t[name].astype(np.float64) for t in pool], axis=0) / w for name, w in weights.items()}


def _categories(sums: Mapping[str, Floats], shape: _Shape, labels: Labels, rng: np.random.Generator) -> list[Labels]:
    """Places [n] of each category and flag, drawn from its shares in the class of labels [n]."""
    out = []
    for counts in np.split(sums["categories"], np.cumsum(shape.sizes)[:-1], axis=1):
        shares = np.maximum(counts, 0) + 1e-9
        cumulated = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)[labels]
        out.append((rng.random((len(labels), 1)) > cumulated[:, :-1]).sum(axis=1))
    return out


def _quantities(
    sums: Mapping[str, Floats],
    noise: Mapping[str, float],
    shape: _Shape,
    labels: Labels,
    rng: np.random.Generator,
) -> Floats:
    """Places z [n, d], of any size: a class's Gaussian over the blocks, and each column's own level."""
    totals, d = sums["count"], len(shape.layout.scales)
    n = totals.sum()
    means = sums["sums"] / totals[:, None]
    means *= np.minimum(1, shape.radius / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))
    covariance, spread = _covariance(sums["squares"] / n, means, totals / n, noise["squares"] / n, shape)
    size, axes = np.linalg.eigh(covariance)
    blocks = means[labels] + (rng.standard_normal((len(labels), len(size))) * np.sqrt(size)) @ axes.T
    z = np.empty((len(labels), d))
    for at, block in zip(blocks.T, shape.blocks, strict=True):
        own = np.zeros(len(block))
        if len(block) > 1:
            own = sums["columns"][list(block)] / n
            own -= own.mean()
            own *= max(0.0, 1 - (len(block) - 1) * (noise["columns"] / n) ** 2 / max(float(own @ own), 1e-12))
        around = rng.standard_normal((len(labels), len(block))) * spread
        z[:, list(block)] = at[:, None] + own + around - around.mean(axis=1, keepdims=True)
    return z


def _covariance(squares: Floats, means: Floats, shares: Floats, noise: float, shape: _Shape) -> tuple[Floats, float]:
    """The covariance [m, m] within classes, and the blocks' spread.

    It is drawn to the multiple of the identity of the same trace, by as much as noise explains (Ledoit and Wolf,
    2004, with the noise known), and its axes stay apart from 0.
    """
    m = len(shape.blocks)
    upper = np.triu_indices(m)
    second = np.zeros((m, m))
    second[upper] = squares / np.where(upper[0] == upper[1], 1, math.sqrt(2))
    excess = second + np.triu(second, 1).T - (means.T * shares) @ means
    level = float(np.clip(np.trace(excess) / m, LEAST**2, REACH**2))
    excess -= level * np.eye(m)
    # of a symmetric matrix's entries, those off the diagonal carry half the noise's variance, twice
    explained = noise**2 * m * (m + 1) / 2
    excess *= max(0.0, 1 - explained / max(float((excess**2).sum()), 1e-12))
    size, axes = np.linalg.eigh(level * np.eye(m) + excess)
    return (axes * np.clip(size, FLOOR * level, shape.radius**2)) @ axes.T, math.sqrt(level)


FAMILY = Moments()
