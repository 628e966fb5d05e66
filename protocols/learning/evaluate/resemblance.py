"""Do columns, and pairs of columns, look alike? Missing counts: as a label of categories, as mass or a flag elsewhere.

The parts of SiloFuse's resemblance (arXiv 2404.03299, section V) that need no model, from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from protocols.learning.evaluate.arrays import Floats, categories, labels, one_hot, quantities
from protocols.learning.schema import Columns

QUANTILES = 1000
"""Quantiles whose correlation says whether two quantities are distributed alike."""

BINS = 20
"""Bins of a quantity for the Jensen-Shannon distance, equally filled by real rows."""

RARE = 0.005
"""A column whose share of missing (or present) values is below this gets no flag: its few rows correlate by chance."""


@dataclass(frozen=True)
class Marginals:
    """Similarities [columns] of the columns one by one, 1 for alike.

    Attributes:
        column: correlation of sorted values, times 1 - the difference of missing shares; or 1 - total variation.
        js: 1 - Jensen-Shannon distance (base 2).
        ks: 1 - Kolmogorov-Smirnov distance with missing values below all others; or 1 - total variation, which is
            the same distance over all sets of labels.
    """

    column: Floats
    js: Floats
    ks: Floats


def marginals(real: Floats, synthetic: Floats, columns: Columns) -> Marginals:
    """Compare two matrices [n, columns] and [m, columns] column by column."""
    out = Marginals(*(np.empty(len(columns)) for _ in range(3)))
    for place, count in categories(columns).items():
        ours, theirs = (_shares(labels(table[:, place], count), count + 1) for table in (real, synthetic))
        out.column[place] = out.ks[place] = 1 - np.abs(ours - theirs).sum() / 2
        out.js[place] = 1 - jensenshannon(ours, theirs, base=2)
    for place in quantities(columns):
        ours, theirs = real[:, place], synthetic[:, place]
        missing = abs(np.isnan(ours).mean() - np.isnan(theirs).mean())
        out.column[place] = _sorted_correlation(ours, theirs) * (1 - missing)
        below = (np.where(np.isnan(values), -np.inf, values) for values in (ours, theirs))
        out.ks[place] = 1 - ks_2samp(*below, method="asymp").statistic
        out.js[place] = 1 - jensenshannon(*_binned(ours, theirs), base=2)
    return out


def _shares(places: NDArray[np.int64], count: int) -> Floats:
    return np.bincount(places, minlength=count) / len(places)


def _sorted_correlation(ours: Floats, theirs: Floats) -> float:
    ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    if not len(ours) or not len(theirs):
        return float(len(ours) == len(theirs))
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    a, b = np.quantile(ours, at), np.quantile(theirs, at)
    if a[0] == a[-1] or b[0] == b[-1]:  # a constant correlates with nothing but itself
        return float(np.array_equal(a, b))
    return float(np.corrcoef(a, b)[0, 1])


def _binned(ours: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    present = ours[~np.isnan(ours)]
    edges = np.unique(np.quantile(present, np.arange(1, BINS) / BINS)) if len(present) else np.empty(0)
    both = []
    for values in (ours, theirs):
        places = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))
        both.append(_shares(places, len(edges) + 2))
    return both[0], both[1]


def flagged(real: Floats, columns: Columns) -> list[int]:
    """The places of quantities that are missing often enough in real rows for the fact to relate to others."""
    missing = np.isnan(real).mean(axis=0)
    return [place for place in quantities(columns) if RARE <= missing[place] <= 1 - RARE]


def association(table: Floats, columns: Columns, flags: list[int]) -> Floats:
    """How strongly columns relate, pair by pair: [f, f] for the columns in order and then the flags of missing values.

    Pearson's r between quantities, Theil's U (row given column) between categories, the correlation ratio between a
    quantity and a category. What is constant relates to nothing.
    """
    numeric, named = quantities(columns), categories(columns)
    sizes = {place: count + 1 for place, count in named.items()}
    groups = {place: one_hot(labels(table[:, place], count), count + 1) for place, count in named.items()}
    for index, place in enumerate(flags):
        sizes[len(columns) + index] = 2
        groups[len(columns) + index] = one_hot(np.isnan(table[:, place]).astype(np.int64), 2)
    out = np.zeros((len(columns) + len(flags),) * 2)
    out[np.ix_(numeric, numeric)] = pd.DataFrame(table[:, numeric]).corr(min_periods=3).fillna(0.0).to_numpy()
    if groups:
        marks, starts = np.concatenate(list(groups.values()), axis=1), np.cumsum([0, *sizes.values()])[:-1]
        where = list(groups)
        out[np.ix_(where, where)] = _theils_u(marks, starts)
        ratios = _correlation_ratios(marks, starts, table[:, numeric])
        out[np.ix_(where, numeric)], out[np.ix_(numeric, where)] = ratios, ratios.T
    np.fill_diagonal(out, 1.0)
    return out


def correlation(real: Floats, synthetic: Floats) -> float:
    """1 - the mean absolute difference of two association matrices, off their diagonals."""
    away = ~np.eye(len(real), dtype=np.bool_)
    return 1 - float(np.abs(real - synthetic)[away].mean()) if away.any() else 1.0


def _theils_u(marks: Floats, starts: NDArray[np.int64]) -> Floats:
    """U [g, g] of groups whose indicators stand side by side: the share of the row's entropy that the column tells."""
    joint = _entropy_terms(marks.T @ marks / len(marks))
    joint = np.add.reduceat(np.add.reduceat(joint, starts, axis=0), starts, axis=1)
    own = np.diag(joint)  # of a group with itself
    known = own[:, None] + own[None, :] - joint
    shares: Floats = np.clip(
        np.divide(known, own[:, None], out=np.zeros_like(known), where=own[:, None] > 1e-12), 0.0, 1.0
    )
    return shares


def _entropy_terms(shares: Floats) -> Floats:
    terms: Floats = -shares * np.log(np.where(shares > 0, shares, 1.0))
    return terms


def _correlation_ratios(marks: Floats, starts: NDArray[np.int64], values: Floats) -> Floats:
    """Correlation ratios [g, q] of groups and quantities [n, q], over the rows where the quantity is present."""
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    means = filled.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, values - means, 0.0)
    total = (centred**2).sum(axis=0)
    counts = marks.T @ present
    between = (marks.T @ centred) ** 2 / np.maximum(counts, 1)
    shares = np.add.reduceat(between, starts, axis=0)
    varies = total > 1e-12 * np.maximum(means**2, 1.0) * np.maximum(present.sum(axis=0), 1)
    ratios: Floats = np.sqrt(np.clip(np.divide(shares, total, out=np.zeros_like(shares), where=varies), 0.0, 1.0))
    return ratios
