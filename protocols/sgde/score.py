"""What a silo can tell of pulled generators by its own rows, before it trains on any: locally, and told to nobody.

Each generator is looked at three ways: whether its rows can be told from the silo's own (a two-sample test); whether
a classifier trained on one side agrees with the labels of the other; and whether a classifier trained on all other
generators agrees with its labels, leaving one silo out at a time. One whose labels contradict the others' and the
silo's own more than they agree is flagged: so are flipped or permuted labels.

What this cannot detect: a *backdoor*. A generator that is honest almost everywhere, and gives rows with a rare mark a
label of the attacker's choice, agrees with everybody where they look. Nor can it tell a generator that is useless but
harmless from a silo whose people are different, nor hold against a majority that lies together. The mechanism in the
manifest says nothing of it either: privacy is no promise of truth.

The classifiers are linear, fitted in closed form on the public scale: quick enough to try every generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from protocols.learning.codes import Floats, Labels
from protocols.sgde.families.scale import Layout, layout
from protocols.sgde.generator import Generator

_RIDGE = 0.02
_FOLDS = 2
_FEWEST = 20
"""Own rows below which their word is chance's, and only the pool's is heard."""


@dataclass(frozen=True)
class Score:
    """What was found of one generator.

    Attributes:
        two_sample: 0 where its rows cannot be told from the silo's own, 1 where each can; linearly, on held-out rows.
        by_own: how well the silo's own rows predict its labels: 1 always, 0 as chance, below 0 worse than chance.
        of_own: how well its rows predict the silo's own labels, alike.
        by_pool: how well all other generators' rows predict its labels, alike.

    The first three are None where the silo has fewer than 20 rows or one class only, `by_pool` where no other
    generator is.
    """

    two_sample: float | None
    by_own: float | None
    of_own: float | None
    by_pool: float | None

    @property
    def agreement(self) -> float:
        """The mean of what is known of its labels; 0 where nothing is."""
        known = [value for value in (self.by_own, self.of_own, self.by_pool) if value is not None]
        return float(np.mean(known)) if known else 0.0

    @property
    def flagged(self) -> bool:
        """Whether its labels contradict more than they agree: look at it before training on it."""
        return self.agreement < 0


def score(own: pd.DataFrame, pool: Mapping[str, Generator], per_class: int = 300) -> dict[str, Score]:
    """Score every generator of a pool; the same rows and the same pool always score alike.

    Args:
        own: the silo's rows in canonical types, which stay here.
        pool: generators under the same schema, by name.
        per_class: rows of each class that are sampled of each.
    """
    if not pool:
        return {}
    description = next(iter(pool.values())).description
    parts = layout(description.columns, description.parameters)
    # a seed that only who has these rows can know: nobody makes a generator that behaves under it alone
    seed = int(pd.util.hash_pandas_object(own, index=False).sum())
    samples = {n: _rows(pool[n].sample(per_class, seed ^ place), parts) for place, n in enumerate(sorted(pool))}
    mine = _rows(own, parts)
    everything = np.concatenate([x for x, _ in samples.values()])
    center, spread = everything.mean(axis=0), everything.std(axis=0) + 1e-3
    mine = (mine[0] - center) / spread, mine[1]
    samples = {name: ((x - center) / spread, y) for name, (x, y) in samples.items()}
    sums = {name: _normal(x, y, parts.classes) for name, (x, y) in samples.items()}
    whole = sum((value for value in sums.values()), start=_Normal.none(everything.shape[1], parts.classes))
    own_fit = _normal(*mine, parts.classes).solve() if len(own) >= _FEWEST and len(np.unique(mine[1])) > 1 else None
    scores = {}
    for name, (x, y) in samples.items():
        scores[name] = Score(
            two_sample=None if own_fit is None else _told_apart(mine, (x, y), parts.classes),
            by_own=None if own_fit is None else _agreement(own_fit, x, y, parts.classes),
            of_own=None if own_fit is None else _agreement(sums[name].solve(), *mine, parts.classes),
            by_pool=_agreement((whole - sums[name]).solve(), x, y, parts.classes) if len(pool) > 1 else None,
        )
    return scores


@dataclass(frozen=True)
class _Normal:
    """The normal equations of a ridge regression on class indicators; they add up over tables."""

    gram: Floats
    moment: Floats

    @classmethod
    def none(cls, width: int, classes: int) -> _Normal:
        return cls(np.zeros((width + 1, width + 1)), np.zeros((width + 1, classes)))

    def __add__(self, other: _Normal) -> _Normal:
        return _Normal(self.gram + other.gram, self.moment + other.moment)

    def __sub__(self, other: _Normal) -> _Normal:
        return _Normal(self.gram - other.gram, self.moment - other.moment)

    def solve(self) -> Floats:
        """Weights [1 + width, classes], the constant's first and not drawn to 0."""
        ridge = _RIDGE * self.gram[0, 0] * np.eye(len(self.gram))
        ridge[0, 0] = 1e-9
        return np.asarray(np.linalg.solve(self.gram + ridge, self.moment))


def _rows(table: pd.DataFrame, parts: Layout) -> tuple[Floats, Labels]:
    """Features [n, width] on the public scale, and labels [n]."""
    units = [scale.units(table) for scale in parts.scales]
    columns = [column for pair in units for column in pair]
    chosen = [row for choice in parts.choices for row in np.eye(choice.size)[choice.places(table)].T]
    return np.column_stack([*columns, *chosen]).astype(np.float64), parts.label.places(table)


def _normal(x: Floats, y: Labels, classes: int) -> _Normal:
    """The equations of rows whose classes weigh alike."""
    counts = np.bincount(y, minlength=classes)
    weight = (1 / np.maximum(counts, 1))[y] / max(1, np.count_nonzero(counts))
    design = np.column_stack([np.ones(len(x)), x])
    return _Normal((design.T * weight) @ design, (design.T * weight) @ np.eye(classes)[y])


def _agreement(weights: Floats, x: Floats, y: Labels, classes: int) -> float:
    """Mean recall over the classes that occur, 0 at chance and 1 at its best."""
    right = (weights[0] + x @ weights[1:]).argmax(axis=1) == y
    recall = np.mean([right[y == place].mean() for place in np.unique(y)])
    return float((recall - 1 / classes) / (1 - 1 / classes))


def _told_apart(mine: tuple[Floats, Labels], theirs: tuple[Floats, Labels], classes: int) -> float:
    """How well held-out rows of the two are told apart, averaged over the classes that both have."""
    found = []
    for place in range(classes):
        sides = [x[y == place] for x, y in (mine, theirs)]
        if min(len(side) for side in sides) >= 2 * _FOLDS:
            found.append(_area(np.concatenate(sides), np.repeat([0, 1], [len(side) for side in sides])))
    return float(np.clip(2 * np.mean(found) - 1, 0, 1)) if found else 0.0


def _area(x: Floats, side: Labels) -> float:
    """The area under the curve of a linear classifier of sides 0 and 1, over rows it was not fitted on."""
    values = np.empty(len(x))
    fold = np.concatenate([np.arange(int((side == s).sum())) % _FOLDS for s in (0, 1)])
    areas = []
    for held in range(_FOLDS):
        weights = _normal(x[fold != held], side[fold != held], 2).solve()
        values = x[fold == held] @ (weights[1:, 1] - weights[1:, 0])
        ranks, ones = rankdata(values), side[fold == held] == 1
        n1, n0 = int(ones.sum()), int((~ones).sum())
        areas.append((ranks[ones].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
    return float(np.mean(areas))
