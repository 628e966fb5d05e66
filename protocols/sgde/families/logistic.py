"""Rows from noisy Gaussians, labels from a private logistic regression: strong at telling classes apart.

A generator's rows teach a classifier little beyond its labels' rule, and that rule takes fewer numbers than what it is
otherwise concluded from: a weight for each feature, instead of a covariance. So most of the budget buys the rule.
Features are the averaged blocks b of quantities (`blocks`), and indicators x of categories. In turn:
1. how many records are of each class, how often each x occurs in it, and over all classes the sums of b and, where
   blocks hold several columns, of z. Their noisy mean is the centre. Where `records` promise no centre that noise does
   not hide, it is the middle of the bounds, and costs nothing.
2. for each class the sums of u, and over all of u uᵀ, where u is b - centre clipped to a public norm R. They whiten
   the blocks: axes along which noise may be all there is are scaled alike.
3. steps of full-batch gradient descent on the softmax cross-entropy over (1, whitened blocks, x - their mean), every
   record's gradient clipped to a public norm. The mean of the later half of the steps is the score; it leaves in
   terms of b and x.
Candidates come from `moments`' form: a class's Gaussian over blocks, and its shares of categories. A row of a class is
one of several candidates of all classes, drawn by the chance that the score gives it for the class.

*Sensitivity.* Each step is a sum over records of vectors of norm at most 1. First: squared norms as `SHARES` has them,
as `moments` proves. Second: u in the class's place times √s/R, and u uᵀ times √(1-s)/R². Third: the clipped gradient
over its clip norm. What follows between the steps is computed from noisy sums alone, and divisors are public or
noisy, so the composition is the event's: exactly Gaussian again, though each step depends on those before.

The score is linear, so scores of several generators are averaged, and their noise with them; sums add up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from protocols.learning.codes import Floats, Labels
from protocols.learning.noise import Noise
from protocols.learning.scale import clipped
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec
from protocols.sgde.families.blocks import Blocks, covariance, pick, square, triangle
from protocols.sgde.families.contract import Tensors
from protocols.sgde.families.logistic_form import CLIP, RATE, STEPS, Shape, centre, feature_map, weightless
from protocols.sgde.parameters import SgdeParameters
from services.contract import ProgressCallback
from services.mechanism import Event, Mechanism

_CANDIDATES, _ROWS = 32, 2048
_WIDEST = 0.3
"""How far candidates spread where their covariance is all noise: wide enough that the score splits them."""
_MOST = 1e4
"""No weight of a score counts for more."""


@dataclass(frozen=True)
class Seen:
    """A silo's rows, private: quantities z [n, d], blocks [n, m], indicators of categories and of the class [n, c]."""

    z: Floats
    blocks: Floats
    chosen: Floats
    label: Floats

    @classmethod
    def of(cls, table: pd.DataFrame, blocks: Blocks) -> Seen:
        """See a table in canonical types."""
        z, chosen = blocks.see(table)
        return cls(z, blocks.average(z), chosen, np.eye(blocks.layout.classes)[blocks.layout.label.places(table)])


def opening(seen: Seen, shape: Shape) -> dict[str, Floats]:
    """The first part's weighted sums without noise, private: of L2 sensitivity 1."""
    every = {
        "count": seen.label.sum(axis=0),
        "sums": clipped(seen.blocks, shape.blocks.radius).sum(axis=0),
        "columns": seen.z.sum(axis=0),
        "categories": seen.label.T @ seen.chosen,
    }
    return {name: weight * every[name] for name, weight in shape.weights().items() if name in every}


def around(centre: Floats, seen: Seen, shape: Shape) -> dict[str, Floats]:
    """The second part's weighted sums without noise, private: of L2 sensitivity 1 for any centre [m]."""
    weights = shape.weights()
    u = clipped(seen.blocks - centre, shape.near)
    return {"offsets": weights["offsets"] * seen.label.T @ u, "squares": weights["squares"] * triangle(u)}


def descent(score: Floats, features: Floats, label: Floats) -> Floats:
    """The sum of records' clipped gradients over their clip norm, private: of L2 sensitivity 1 for any score.

    Args:
        score: weights [c, k].
        features: of records [n, k].
        label: indicators of the records' classes [n, c].
    """
    wrong = softmax(features @ score.T, axis=1) - label
    # the gradient of a record is an outer product, whose norm is the product of the norms
    norms = np.linalg.norm(wrong, axis=1) * np.linalg.norm(features, axis=1)
    return np.asarray((wrong / np.maximum(norms, CLIP)[:, None]).T @ features)


class Logistic:
    """The family; see the module."""

    def mechanism(self, columns: Columns, parameters: SgdeParameters) -> Mechanism:
        """Gaussian sums; a person is in all of them, so the classes are no partition."""
        return Mechanism(event=Shape.of(columns, parameters).event)

    def fit(
        self,
        table: pd.DataFrame,
        columns: Columns,
        parameters: SgdeParameters,
        noise: Noise,
        progress: ProgressCallback,
    ) -> tuple[Tensors, Event]:
        """Noisy sums, then noisy steps."""
        shape = Shape.of(columns, parameters)
        seen, (first, second, third) = Seen.of(table, shape.blocks), shape.multipliers
        sums = {name: _released(exact, first, noise) for name, exact in opening(seen, shape).items()}
        if shape.blocks.places:
            exact = around(centre(weightless(sums, shape), shape), seen, shape)
            sums |= {name: _released(part, second, noise) for name, part in exact.items()}
        change = feature_map(sums, shape)
        features = np.column_stack([np.ones(len(table)), seen.blocks, seen.chosen]) @ change
        score = late = np.zeros((seen.label.shape[1], len(change)))
        # drawn at once: a draw of few numbers costs as much as one of thousands
        for step, drawn in enumerate(noise.normal((STEPS, *score.shape), third)):
            score = score - RATE * CLIP / parameters.records * (descent(score, features, seen.label) + drawn)
            if 2 * step >= STEPS:
                late = late + score / (STEPS - STEPS // 2)
            progress("logistic", step + 1, STEPS, None)
        return sums | {"score": (late @ change.T).astype(np.float32)}, shape.event

    def expected(self, columns: Columns, parameters: SgdeParameters) -> dict[str, TensorSpec]:
        """The weighted sums, and the score of (1, blocks, categories)."""
        shape = Shape.of(columns, parameters)
        c, m, k = shape.blocks.layout.classes, len(shape.blocks.places), sum(shape.blocks.sizes)
        d = len(shape.blocks.layout.scales)
        shapes = {"count": (c,), "sums": (m,), "columns": (d,), "categories": (c, k)}
        shapes |= {"offsets": (c, m), "squares": (m * (m + 1) // 2,)}
        specs = {name: TensorSpec("float32", shapes[name]) for name in shape.weights()}
        return specs | {"score": TensorSpec("float32", (c, 1 + m + k))}

    def check(self, columns: Columns, parameters: SgdeParameters, tensors: Tensors) -> None:
        """Any finite numbers will do."""

    def shares(self, columns: Columns, parameters: SgdeParameters, pool: Sequence[Tensors]) -> Floats:
        """Of candidates, as the score has it; the same at every call."""
        source = _Source.of(Shape.of(columns, parameters), pool)
        _, _, logits = source.candidates(_CANDIDATES * _ROWS // 4, np.random.default_rng(0))
        return np.asarray(softmax(logits, axis=1).mean(axis=0))

    def sample(
        self,
        columns: Columns,
        parameters: SgdeParameters,
        pool: Sequence[Tensors],
        counts: Mapping[str, int],
        rng: np.random.Generator,
    ) -> pd.DataFrame:
        """Rows of the pool's sums, with labels by the mean of its scores."""
        source = _Source.of(Shape.of(columns, parameters), pool)
        blocks = source.blocks
        labels = np.repeat(
            np.arange(blocks.layout.classes), [counts.get(c, 0) for c in blocks.layout.label.column.categories]
        )
        parts = [source.draw(labels[first : first + _ROWS], rng) for first in range(0, max(1, len(labels)), _ROWS)]
        z = np.concatenate([z for z, _ in parts])
        chosen = np.concatenate([places for _, places in parts], axis=1)
        return blocks.rows(columns, labels, z, list(chosen))


@dataclass(frozen=True)
class _Source:
    """What a pool draws from: everything in it was released.

    Attributes:
        blocks: the run's columns.
        shares: of the classes [c], by noisy counts.
        means: of the blocks in each class [c, m].
        axes: of the covariance within classes, scaled [m, m].
        levels: of columns within their block [d].
        spread: of columns around it.
        categories: noisy counts [c, sum of sizes].
        score: [c, 1 + m + sum of sizes].
    """

    blocks: Blocks
    shares: Floats
    means: Floats
    axes: Floats
    levels: Floats
    spread: float
    categories: Floats
    score: Floats

    @classmethod
    def of(cls, shape: Shape, pool: Sequence[Tensors]) -> _Source:
        blocks = shape.blocks
        c, m, d = blocks.layout.classes, len(blocks.places), len(blocks.layout.scales)
        every = [weightless(tensors, shape) for tensors in pool]
        noise = {name: deviation * math.sqrt(len(pool)) for name, deviation in shape.noise().items()}
        total: dict[str, Floats] = {name: np.sum([sums[name] for sums in every], axis=0) for name in every[0]}
        counts = np.maximum(total["count"], 1 + noise["count"])
        n = float(counts.sum())
        means, axes, spread, levels = np.zeros((c, m)), np.zeros((m, m)), 0.0, np.zeros(d)
        if m:
            means, within = _within(every, counts, shape)
            matrix, spread = covariance(within, noise["squares"] / n, blocks.radius, _WIDEST)
            size, axes = np.linalg.eigh(matrix)
            axes = axes * np.sqrt(size)
        if m < d:
            levels = blocks.levels(total["columns"] / n, noise["columns"] / n)
        score = np.mean([np.clip(t["score"].astype(np.float64), -_MOST, _MOST) for t in pool], axis=0)
        categories = total.get("categories", np.zeros((c, 0)))
        return cls(blocks, counts / n, means, axes, levels, spread, categories, score)

    def candidates(self, count: int, rng: np.random.Generator) -> tuple[Floats, list[Labels], Floats]:
        """Quantities [n, d], places [n] of each category and flag, and what the score gives each class [n, c]."""
        m = self.means.shape[1]
        near = rng.choice(len(self.shares), count, p=self.shares)
        b = self.means[near] + rng.standard_normal((count, m)) @ self.axes.T
        z = np.clip(self.blocks.spread_out(b, self.levels, self.spread, rng), -1, 1)
        places = pick(self.categories, near, self.blocks.sizes, rng)
        logits = self.score[:, 0] + self.blocks.average(z) @ self.score[:, 1 : 1 + m].T
        starts = 1 + m + np.cumsum([0, *self.blocks.sizes])
        for start, at in zip(starts, places, strict=False):
            logits += self.score.T[start + at]
        return z, places, logits

    def draw(self, labels: Labels, rng: np.random.Generator) -> tuple[Floats, Labels]:
        """Quantities [n, d] and places [categories and flags, n] of rows of classes [n]."""
        n = len(labels)
        z, places, logits = self.candidates(n * _CANDIDATES, rng)
        chance = log_softmax(logits, axis=1).reshape(n, _CANDIDATES, -1)[np.arange(n), :, labels]
        # the largest with Gumbel noise is a draw by these chances
        best = (chance + rng.gumbel(size=chance.shape)).argmax(axis=1) + np.arange(n) * _CANDIDATES
        return z[best], np.reshape([at[best] for at in places], (len(places), n)).astype(np.int64)


def _released(exact: Floats, multiplier: float, noise: Noise) -> Floats:
    return np.asarray((exact + noise.normal(exact.shape, multiplier)).astype(np.float32))


def _within(every: Sequence[Mapping[str, Floats]], counts: Floats, shape: Shape) -> tuple[Floats, Floats]:
    """The pool's means of blocks [c, m] and noisy covariance within classes [m, m], each part about its own centre."""
    centres = [centre(sums, shape) for sums in every]
    parts = list(zip(every, centres, strict=True))
    totals = np.sum([sums["offsets"] + np.outer(sums["count"], own) for sums, own in parts], axis=0)
    mean, n = totals.sum(axis=0) / counts.sum(), counts.sum()
    means = clipped(totals / counts[:, None], shape.blocks.radius)
    scatter = np.zeros((len(mean), len(mean)))
    for sums, own in parts:
        cross = np.outer(own - mean, sums["offsets"].sum(axis=0))
        scatter += square(sums["squares"], len(mean)) + cross + cross.T
        scatter += sums["count"].sum() * np.outer(own - mean, own - mean)
    within: Floats = scatter / n - ((means - mean).T * (counts / n)) @ (means - mean)
    return means, within


FAMILY = Logistic()
