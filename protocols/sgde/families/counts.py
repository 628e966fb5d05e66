"""What may be concluded from noisy counts: margins that are distributions, groups of even mass, tables that fit both.

All of it is post-processing: the noise is public, and no row is seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.learning.codes import Floats, Labels

_RAKES = 30


def margins(tables: Sequence[Floats]) -> tuple[Floats, list[Floats]]:
    """Class sizes [c] that noisy tables [c, places] of the same rows agree on, and each table's shares in the class."""
    # a table's sum over its places carries noise that grows with them
    weights = np.array([1 / table.shape[1] for table in tables])
    sums = np.stack([table.sum(axis=1) for table in tables])
    totals = np.maximum((weights[:, None] * sums).sum(axis=0) / weights.sum(), 1.0)
    return totals, [np.stack([simplex(row / n) for row, n in zip(t, totals, strict=True)]) for t in tables]


def simplex(values: Floats) -> Floats:
    """The distribution [k] nearest to any finite values [k] (Duchi et al., ICML 2008)."""
    values = np.clip(values, -1e6, 1e6)  # beyond, a float no longer tells 1 from the rounding
    falling = np.sort(values)[::-1]
    over = (np.cumsum(falling) - 1) / np.arange(1, len(values) + 1)
    shares = np.maximum(values - over[np.flatnonzero(falling > over)[-1]], 0)
    return np.asarray(shares / shares.sum())


def groups(table: Floats, most: int, *, ordered: bool) -> Labels:
    """For each place of a table [c, places] of masses its group, below `most`: groups of about even mass.

    Neighbours are merged where places are ordered; otherwise places whose classes are alike.
    """
    mass = table.sum(axis=0) + 1e-9
    k = len(mass)
    if k <= most:
        return np.arange(k)
    order = np.arange(k) if ordered else np.argsort(np.arange(len(table)) @ table / mass, kind="stable")
    before = np.cumsum(mass[order]) - mass[order] / 2
    out = np.empty(k, np.int64)
    out[order] = np.minimum((before / mass.sum() * most).astype(np.int64), most - 1)
    return out


def product(rows: Floats, columns: Floats) -> Floats:
    """Shares [c, a, b] of rows [c, a] and columns [c, b] that are independent within the class."""
    return np.asarray(rows[:, :, None] * columns[:, None, :])


def shrunk(edge: Floats, rows: Floats, columns: Floats, noise: float) -> Floats:
    """Noisy counts [c, a, b] as shares, drawn to independence by as much as noise explains (James and Stein, 1961).

    Args:
        edge: counts.
        rows: shares [c, a] that they should have.
        columns: shares [c, b] that they should have.
        noise: the counts' deviation.
    """
    totals = np.maximum(edge.sum(axis=(1, 2), keepdims=True), 1.0)
    independent = product(rows, columns)
    possible = independent.max(axis=0) > 0
    excess = (edge / totals - independent) * possible
    cells = int(possible.sum())
    energy = (excess**2).sum(axis=(1, 2), keepdims=True)
    keep = np.maximum(0, 1 - cells * (noise / totals) ** 2 / np.maximum(energy, 1e-12))
    return np.asarray(np.maximum(independent + keep * excess, 0))


def rake(table: Floats, rows: Floats, columns: Floats) -> Floats:
    """A table [c, a, b] >= 0 fitted to shares of rows [c, a] and columns [c, b] (Deming and Stephan, 1940)."""
    table = table + 1e-9
    for _ in range(_RAKES):
        table *= (rows / table.sum(axis=2))[:, :, None]
        table = np.maximum(table, 1e-15)
        table *= (columns / table.sum(axis=1))[:, None, :]
        table = np.maximum(table, 1e-15)
    return np.asarray(table)
