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

import numpy as np
import pandas as pd

from protocols.learning.codes import Floats, Labels
from protocols.learning.noise import Noise
from protocols.learning.scale import clipped
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec
from protocols.sgde.families.blocks import Blocks, covariance, pick, square, triangle
from protocols.sgde.families.contract import Tensors, affordable
from protocols.sgde.parameters import SgdeParameters
from services.contract import ProgressCallback
from services.mechanism import Event, Gaussian, Mechanism

SHARES = {"count": 0.2, "sums": 0.5, "squares": 0.25, "columns": 0.05}
"""Of the squared sensitivity, what each part on quantities gets; categories get as much as columns are categories."""


def _gaussian(scale: float) -> Event:
    return Gaussian(noise_multiplier=scale)


def _multiplier(parameters: SgdeParameters) -> float:
    event = affordable(_gaussian, parameters)
    assert isinstance(event, Gaussian)  # noqa: S101 - what _gaussian makes
    return event.noise_multiplier


def _weights(blocks: Blocks) -> dict[str, float]:
    """What each part of a record's vector is multiplied by; see the module's proof."""
    d, k, m = len(blocks.layout.scales), len(blocks.sizes), len(blocks.places)
    of_quantities = {"sums": (SHARES["sums"], blocks.radius), "squares": (SHARES["squares"], blocks.radius**2)}
    if m < d:
        of_quantities["columns"] = (SHARES["columns"], math.sqrt(d))
    parts = {"count": (SHARES["count"], 1.0)}
    if m:
        parts |= {name: (share * d / (d + k), norm) for name, (share, norm) in of_quantities.items()}
    if k:
        parts["categories"] = (k / (d + k), math.sqrt(k))
    total = sum(share for share, _ in parts.values())
    return {name: math.sqrt(share / total) / norm for name, (share, norm) in parts.items()}


def statistic(table: pd.DataFrame, columns: Columns, parameters: SgdeParameters) -> dict[str, Floats]:
    """The weighted sums without noise, private: of L2 sensitivity 1 under adding or removing a record."""
    blocks = Blocks.of(columns, parameters)
    indicator = np.eye(blocks.layout.classes)[blocks.layout.label.places(table)]
    z, chosen = blocks.see(table)
    b = clipped(blocks.average(z), blocks.radius)
    every = {
        "count": indicator.sum(axis=0),
        "sums": indicator.T @ b,
        "squares": triangle(b),
        "columns": z.sum(axis=0),
        "categories": indicator.T @ chosen,
    }
    return {name: weight * every[name] for name, weight in _weights(blocks).items()}


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
        blocks = Blocks.of(columns, parameters)
        c, m, d = blocks.layout.classes, len(blocks.places), len(blocks.layout.scales)
        shapes = {
            "count": (c,),
            "sums": (c, m),
            "squares": (m * (m + 1) // 2,),
            "columns": (d,),
            "categories": (c, sum(blocks.sizes)),
        }
        return {name: TensorSpec("float32", shapes[name]) for name in _weights(blocks)}

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
        blocks = Blocks.of(columns, parameters)
        weights, sums = _weights(blocks), _summed(columns, parameters, pool)
        spread = _multiplier(parameters) * math.sqrt(len(pool))
        # what lies below its noise divides nothing
        sums["count"] = np.maximum(sums["count"], 1 + spread / weights["count"])
        labels = np.repeat(
            np.arange(blocks.layout.classes), [counts.get(c, 0) for c in blocks.layout.label.column.categories]
        )
        chosen = pick(sums["categories"], labels, blocks.sizes, rng) if blocks.sizes else []
        noise = {name: spread / weight for name, weight in weights.items()}
        z = _quantities(sums, noise, blocks, labels, rng) if blocks.places else np.empty((len(labels), 0))
        return blocks.rows(columns, labels, z, chosen)


def _summed(columns: Columns, parameters: SgdeParameters, pool: Sequence[Tensors]) -> dict[str, Floats]:
    """The pool's noisy sums, weights taken off."""
    weights = _weights(Blocks.of(columns, parameters))
    return {name: np.sum([t[name].astype(np.float64) for t in pool], axis=0) / w for name, w in weights.items()}


def _quantities(
    sums: Mapping[str, Floats],
    noise: Mapping[str, float],
    blocks: Blocks,
    labels: Labels,
    rng: np.random.Generator,
) -> Floats:
    """Places z [n, d], of any size: a class's Gaussian over the blocks, and each column's own level."""
    totals, d, m = sums["count"], len(blocks.layout.scales), len(blocks.places)
    n = totals.sum()
    means = clipped(sums["sums"] / totals[:, None], blocks.radius)
    within = square(sums["squares"] / n, m) - (means.T * (totals / n)) @ means
    matrix, spread = covariance(within, noise["squares"] / n, blocks.radius)
    size, axes = np.linalg.eigh(matrix)
    at = means[labels] + (rng.standard_normal((len(labels), m)) * np.sqrt(size)) @ axes.T
    levels = blocks.levels(sums["columns"] / n, noise["columns"] / n) if "columns" in sums else np.zeros(d)
    return blocks.spread_out(at, levels, spread, rng)


FAMILY = Moments()
