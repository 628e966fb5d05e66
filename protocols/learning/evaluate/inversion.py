"""How much of the rows do latents give away to somebody who has them, and the rows of a few of them?

Two attackers learn from leaked (latent, row) pairs: a ridge regression, which undoes what is linear, and a small
neural network. The stronger one counts: an attacker would choose as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor

from protocols.learning.evaluate.arrays import Floats, categories, labels, matrix, one_hot, quantities
from protocols.learning.evaluate.report import Inversion
from protocols.learning.schema import Columns

MOST_ROWS = 2000
"""Rows that the attack is tested on at most."""

FEWEST_ROWS = 20
"""With fewer rows left to test on than this, nothing is measured."""


def inversion(
    latents: NDArray[np.float32],
    table: pd.DataFrame,
    columns: Columns,
    pairs: Sequence[int] = (20, 500),
    seed: int = 0,
    *,
    network: bool = True,
) -> Inversion:
    """Attack the latents [n, width] of a table [n] with so many leaked pairs; `network` False: by the regression alone.

    The attacker has all latents. Quantities are sought as normal scores, since who knows a population's distribution
    has the values as well.

    Returns:
        For each number of pairs the stronger attack's R² of quantities and accuracy of categories on other rows; null
        where there are too few rows, or no such columns.
    """
    rows = matrix(table, columns)
    spread = latents.std(axis=0)
    known = (latents - latents.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    order = np.random.default_rng(seed).permutation(len(rows))
    sought = _Sought(rows, columns)
    found: dict[str, float | None] = {}
    for count in pairs:
        leaked, asked = order[:count], order[count : count + MOST_ROWS]
        if len(asked) < FEWEST_ROWS:
            continue
        scores = [
            sought.score(guesses, asked)
            for guesses in _attack(known, sought.aims, leaked, asked, seed, network=network)
        ]
        for key, values in zip(("r2", "accuracy"), zip(*scores, strict=True), strict=True):
            found[f"{key}_{count}"] = max((value for value in values if value is not None), default=None)
    return Inversion.model_validate({**found, "majority": sought.majority()})


def _attack(
    known: Floats, aims: Floats, leaked: NDArray[np.int64], asked: NDArray[np.int64], seed: int, *, network: bool
) -> list[Floats]:
    """What a ridge regression and a neural network that saw the leaked rows say of the others [rows, aims]."""
    attackers: list[RidgeCV | MLPRegressor] = [RidgeCV(np.logspace(-4, 3, 15), alpha_per_target=True)]
    if network:
        attackers.append(
            MLPRegressor(
                hidden_layer_sizes=(128,), learning_rate_init=3e-3, alpha=1e-3, max_iter=300, random_state=seed
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after 300 rounds, converged or not
        return [
            model.fit(known[leaked], aims[leaked].squeeze()).predict(known[asked]).reshape(len(asked), -1)
            for model in attackers
        ]


class _Sought:
    """What an attacker seeks: a normal score per quantity (0 where missing), indicators per category."""

    def __init__(self, rows: Floats, columns: Columns) -> None:
        self._places = quantities(columns)
        self._categories = {p: labels(rows[:, p], count) for p, count in categories(columns).items()}
        self._scores = np.column_stack([_normal_scores(rows[:, p]) for p in self._places] or [np.empty((len(rows), 0))])
        marks = [one_hot(self._categories[p], count + 1) for p, count in categories(columns).items()]
        self.aims = np.concatenate([np.nan_to_num(self._scores), *marks], axis=1)
        self._ends = np.cumsum([self._scores.shape[1], *(mark.shape[1] for mark in marks)])

    def score(self, guesses: Floats, asked: NDArray[np.int64]) -> tuple[float | None, float | None]:
        """The mean R² of quantities, each at least 0, and the mean accuracy of categories, on some rows."""
        truth = self._scores[asked]
        present = ~np.isnan(truth)
        fits = []
        for column in range(truth.shape[1]):
            values, told = truth[present[:, column], column], guesses[present[:, column], column]
            spread = ((values - values.mean()) ** 2).sum() if len(values) else 0.0
            if spread > 0:
                fits.append(max(0.0, 1 - ((values - told) ** 2).sum() / spread))
        blocks = np.split(guesses, self._ends[:-1], axis=1)[1:]
        hits = [
            np.mean(block.argmax(axis=1) == names[asked])
            for block, names in zip(blocks, self._categories.values(), strict=True)
        ]
        return _mean(fits), _mean(hits)

    def majority(self) -> float | None:
        """The accuracy of always naming the most frequent label."""
        return _mean([np.bincount(names).max() / len(names) for names in self._categories.values()])


def _normal_scores(values: Floats) -> Floats:
    scores = np.full(len(values), np.nan)
    present = ~np.isnan(values)
    if present.any():
        scores[present] = ndtri((rankdata(values[present]) - 0.5) / present.sum())
    return scores


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
