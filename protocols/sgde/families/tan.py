"""A tree-augmented naive Bayes model from noisy counts: the strongest form where a silo has hundreds of rows.

All of it is Gaussian sums, each chosen after seeing those before, so the composition is exactly Gaussian again:
1. for every column, counts of (class, place) on a public grid; quantities have places of even width on their scale.
   From these each column's places are merged to groups of about equal mass, at most 8 and at most 4.
2. for every pair of columns, counts of (class, group of 4, group of 4). A pair's score is what is left of χ² against
   independence within the class, as the first step's counts have it, with the noise's part taken off; the maximum
   spanning tree of the scores is taken.
3. for every edge of the tree, counts of (class, group of 8, group of 8).
Where a silo's public number of rows promises nothing from pairs, all is spent on the first step: naive Bayes.

*Sensitivity.* A record adds 1 to one cell of each of a step's k tables, so adding or removing it moves a step's counts
by √k in L2; noise is √k times the event's multiplier for that step. Nothing else is computed from the rows: classes
are as large as their noisy counts say, and the merged groups and the tree follow from noisy counts.

Counts of (class, place) add up over generators: each one's tree is sampled with the margins of the whole pool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from protocols.learning.codes import Floats, Labels
from protocols.learning.noise import Noise
from protocols.learning.scale import Choice, Scale
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec
from protocols.sgde.families.contract import Tensors, affordable
from protocols.sgde.families.counts import groups, margins, product, rake, shrunk
from protocols.sgde.families.scale import Layout, layout
from protocols.sgde.parameters import SgdeParameters
from services.contract import ProgressCallback
from services.errors import InvalidArtifact
from services.mechanism import Composed, Event, Gaussian, Mechanism

SHARES = (0.6, 0.1, 0.3)
"""Of the squared sensitivity that a budget buys, what each step gets."""

COARSE, COARSEST = 8, 4
_MOST_PLACES = 60


def _steps(scale: float) -> Event:
    return Composed(of=tuple(Gaussian(noise_multiplier=scale / math.sqrt(share)) for share in SHARES))


def _naive(scale: float) -> Event:
    return Gaussian(noise_multiplier=scale)


@dataclass(frozen=True)
class _Grid:
    """Every column's public places, and what is spent on them."""

    layout: Layout
    columns: tuple[Scale | Choice, ...]
    sizes: tuple[int, ...]
    multipliers: tuple[float, ...]
    event: Event

    @classmethod
    def of(cls, columns: Columns, parameters: SgdeParameters) -> _Grid:
        parts = layout(columns, parameters)
        every: tuple[Scale | Choice, ...] = (*parts.scales, *parts.choices)
        cap = round(min(_MOST_PLACES, max(4, 1.5 * math.sqrt(parameters.records))))
        sizes = [_places(column, cap) for column in every]
        event = affordable(_steps, parameters)
        assert isinstance(event, Composed)  # noqa: S101 - what _steps makes
        multipliers = tuple(one.noise_multiplier for one in event.of if isinstance(one, Gaussian))
        # below about so many rows, trees of noisy tables predicted labels no better than naive Bayes (Adult, ε = 1.5)
        if len(every) < 3 or parameters.records < 100 * multipliers[2] * math.sqrt(len(every) - 1):
            event = affordable(_naive, parameters)
            assert isinstance(event, Gaussian)  # noqa: S101 - what _naive makes
            multipliers = (event.noise_multiplier,)
        return cls(parts, every, tuple(sizes), multipliers, event)

    @property
    def pairs(self) -> bool:
        """Whether pairs are counted."""
        return len(self.multipliers) > 1

    def places(self, table: pd.DataFrame) -> list[Labels]:
        """Each column's places [n]; a missing quantity stands after the others."""
        return [_place(column, table, size) for column, size in zip(self.columns, self.sizes, strict=True)]

    def noise(self, step: int) -> float:
        """The deviation of a step's counts."""
        d = len(self.columns)
        return self.multipliers[step] * math.sqrt((d, d * (d - 1) // 2, d - 1)[step])


def _places(column: Scale | Choice, cap: int) -> int:
    if isinstance(column, Choice):
        return column.size
    return min(column.points or cap, cap) + column.column.missing


def _place(column: Scale | Choice, table: pd.DataFrame, size: int) -> Labels:
    if isinstance(column, Choice):
        return column.places(table)
    units, missing = column.units(table)
    known = size - column.column.missing
    return np.where(missing, known, np.minimum((units * known).astype(np.int64), known - 1))


def counts(label: Labels, columns: Sequence[Labels], shape: tuple[int, ...]) -> Floats:
    """How many records are in each cell [shape] of class and columns: of L2 sensitivity 1."""
    return np.bincount(np.ravel_multi_index((label, *columns), shape), minlength=math.prod(shape)).reshape(shape) * 1.0


class Tan:
    """The family; see the module."""

    def mechanism(self, columns: Columns, parameters: SgdeParameters) -> Mechanism:
        """Gaussian sums; a person is in one class's cells, so the classes need no partition."""
        return Mechanism(event=_Grid.of(columns, parameters).event)

    def fit(
        self,
        table: pd.DataFrame,
        columns: Columns,
        parameters: SgdeParameters,
        noise: Noise,
        progress: ProgressCallback,
    ) -> tuple[Tensors, Event]:
        """Three noisy steps, or one."""
        grid = _Grid.of(columns, parameters)
        c, d = grid.layout.classes, len(grid.columns)
        label, places = grid.layout.label.places(table), grid.places(table)

        def noisy(step: int, chosen: Sequence[Labels], shape: tuple[int, ...]) -> Floats:
            exact = counts(label, chosen, (c, *shape))
            return (exact + noise.normal(exact.shape, grid.noise(step))).astype(np.float32).astype(np.float64)

        fine = [noisy(0, [column], (size,)) for column, size in zip(places, grid.sizes, strict=True)]
        progress("counts", 1, len(grid.multipliers), None)
        tensors: dict[str, Floats | Labels] = {"fine": np.concatenate(fine, axis=1)}
        if grid.pairs:
            totals, shares = margins(fine)
            merge = partial(_merge, grid, totals, shares)
            coarsest, coarse = merge(COARSEST), merge(COARSE)
            scores = np.zeros((d, d))
            for i, j in combinations(range(d), 2):
                shape = (min(grid.sizes[i], COARSEST), min(grid.sizes[j], COARSEST))
                pair = noisy(1, [coarsest[i][places[i]], coarsest[j][places[j]]], shape)
                alone = [shares[k] @ np.eye(n)[coarsest[k]] for k, n in zip((i, j), shape, strict=True)]
                scores[i, j] = _score(pair, totals[:, None, None] * product(*alone), grid.noise(1))
            progress("counts", 2, 3, None)
            order, parents = _tree(scores)
            edges = [(order[p], child) for p, child in zip(parents, order[1:], strict=True)]
            tensors["edges"] = np.stack(
                [noisy(2, [coarse[i][places[i]], coarse[j][places[j]]], (COARSE, COARSE)) for i, j in edges]
            )
            tensors |= {"groups": np.concatenate(coarse), "order": order, "parents": parents}
            progress("counts", 3, 3, None)
        return {n: t.astype(np.float32 if t.dtype.kind == "f" else np.int64) for n, t in tensors.items()}, grid.event

    def expected(self, columns: Columns, parameters: SgdeParameters) -> dict[str, TensorSpec]:
        """Noisy counts, and where pairs were counted the groups and the tree."""
        grid = _Grid.of(columns, parameters)
        c, d, places = grid.layout.classes, len(grid.columns), sum(grid.sizes)
        specs = {"fine": TensorSpec("float32", (c, places))}
        if grid.pairs:
            specs |= {
                "edges": TensorSpec("float32", (d - 1, c, COARSE, COARSE)),
                "groups": TensorSpec("int64", (places,)),
                "order": TensorSpec("int64", (d,)),
                "parents": TensorSpec("int64", (d - 1,)),
            }
        return specs

    def check(self, columns: Columns, parameters: SgdeParameters, tensors: Tensors) -> None:
        """Groups are known ones, and the tree is one: parents stand before their children.

        Raises:
            InvalidArtifact: they are not.
        """
        grid = _Grid.of(columns, parameters)
        if not grid.pairs:
            return
        order, parents, d = tensors["order"], tensors["parents"], len(grid.columns)
        if not np.array_equal(np.sort(order), np.arange(d)) or not ((parents >= 0) & (parents < np.arange(1, d))).all():
            raise InvalidArtifact("the generator's tree is none: a column hangs on itself, twice, or on nothing")
        if not ((tensors["groups"] >= 0) & (tensors["groups"] < COARSE)).all():
            raise InvalidArtifact(f"the generator names groups beyond the {COARSE} there are")

    def shares(self, columns: Columns, parameters: SgdeParameters, pool: Sequence[Tensors]) -> Floats:
        """Of the class sizes that all noisy counts agree on."""
        totals, _ = _pooled(_Grid.of(columns, parameters), pool)
        return np.asarray(totals / totals.sum())

    def sample(
        self,
        columns: Columns,
        parameters: SgdeParameters,
        pool: Sequence[Tensors],
        counts: Mapping[str, int],
        rng: np.random.Generator,
    ) -> pd.DataFrame:
        """Rows of every tree in turn, with the margins of the whole pool."""
        grid = _Grid.of(columns, parameters)
        _, shares = _pooled(grid, pool)
        wanted = [counts.get(name, 0) for name in grid.layout.label.column.categories]
        label = np.repeat(np.arange(len(wanted)), wanted)
        # each class's rows go round over the pool
        turn = np.concatenate([rng.permutation(n) % len(pool) if n else np.empty(0, np.int64) for n in wanted])
        places = np.empty((len(label), len(grid.columns)), np.int64)
        for number, tensors in enumerate(pool if grid.pairs else pool[:1]):
            rows = np.flatnonzero(turn == number) if grid.pairs else np.arange(len(label))
            places[rows] = _draw(grid, tensors, shares, label[rows], rng)
        values = {grid.layout.label.name: grid.layout.label.values(label)}
        for column, size, at in zip(grid.columns, grid.sizes, places.T, strict=True):
            values[column.name] = _values(column, size, at, rng)
        return pd.DataFrame({name: values[name] for name in columns})


def _pooled(grid: _Grid, pool: Sequence[Tensors]) -> tuple[Floats, list[Floats]]:
    """Class sizes [c] and each column's shares in the class [c, places], from all of a pool."""
    fine = np.sum([tensors["fine"].astype(np.float64) for tensors in pool], axis=0)
    return margins(np.split(fine, np.cumsum(grid.sizes)[:-1], axis=1))


def _merge(grid: _Grid, totals: Floats, shares: Sequence[Floats], most: int) -> list[Labels]:
    """Each column's groups [places]: neighbours on a quantity's scale, categories of like classes."""
    return [
        groups(share * totals[:, None], most, ordered=isinstance(column, Scale))
        for column, share in zip(grid.columns, shares, strict=True)
    ]


def _score(pair: Floats, expected: Floats, noise: float) -> float:
    """How far counts [c, a, b] are from those expected, without what noise of this deviation adds."""
    return float((((pair - expected) ** 2 - noise**2) / np.maximum(expected, noise)).sum())


def _tree(scores: Floats) -> tuple[Labels, Labels]:
    """Columns [d] in an order of the maximum spanning tree, and for all but the first its parent's place in it."""
    # to scipy a weight of 0 is no edge, so all are brought below 0: the highest score is the least weight
    weights = np.triu(scores.min() - scores - 1, 1)
    order, before = breadth_first_order(minimum_spanning_tree(weights), 0, directed=False)
    place = np.argsort(order)
    return order.astype(np.int64), place[before[order[1:]]].astype(np.int64)


def _draw(grid: _Grid, tensors: Tensors, shares: Sequence[Floats], label: Labels, rng: np.random.Generator) -> Labels:
    """Places [n, d] of rows of classes [n]: along the tree by groups, then within the groups."""
    out = np.empty((len(label), len(grid.columns)), np.int64)
    if not grid.pairs:
        for i, share in enumerate(shares):
            out[:, i] = _pick(share[label], rng)
        return out
    group = np.split(tensors["groups"], np.cumsum(grid.sizes)[:-1])
    coarse = [share @ np.eye(COARSE)[g] for share, g in zip(shares, group, strict=True)]
    order, parents = tensors["order"], tensors["parents"]
    chosen = np.empty_like(out)
    chosen[:, order[0]] = _pick(coarse[order[0]][label], rng)
    for child, p, edge in zip(order[1:], parents, tensors["edges"].astype(np.float64), strict=True):
        parent = order[p]
        joint = rake(shrunk(edge, coarse[parent], coarse[child], grid.noise(2)), coarse[parent], coarse[child])
        chosen[:, child] = _pick(joint[label, chosen[:, parent]], rng)
    for i, (share, g) in enumerate(zip(shares, group, strict=True)):
        inside = share[label] * (g == chosen[:, [i]]) + 1e-12 * (g == chosen[:, [i]])
        out[:, i] = _pick(inside, rng)
    return out


def _pick(weights: Floats, rng: np.random.Generator) -> Labels:
    """A place [n] for each row of weights [n, places], which sum to more than 0."""
    cumulated = np.cumsum(weights, axis=1)
    return np.asarray((rng.random((len(weights), 1)) * cumulated[:, -1:] >= cumulated[:, :-1]).sum(axis=1))


def _values(column: Scale | Choice, size: int, at: Labels, rng: np.random.Generator) -> pd.Series:
    """Values [n] at places [n]: anywhere within a place of a quantity."""
    if isinstance(column, Choice):
        return column.values(at)
    known = size - column.column.missing
    return column.values((at + rng.random(len(at))) / known, at == known)


FAMILY = Tan()
