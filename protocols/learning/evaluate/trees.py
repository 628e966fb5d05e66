"""What gradient-boosted trees make of two tables: can they be told apart, and can one stand in for the other?

One thread: two are no faster on a few thousand rows, and where they share their cores with other processes, waiting
for each other made a training of 0.4 s take 36 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.metrics import d2_absolute_error_score, f1_score, roc_auc_score

from protocols.learning.evaluate.arrays import Floats
from protocols.learning.schema import Category, Column, Columns

FOLDS = 3
ROUNDS = 60
TREES = {"max_depth": 4, "eta": 0.2, "nthread": 1, "seed": 0}
"""Calmer than XGBoost's defaults, whose confident guesses call fresh real rows unlike real rows: on SUPPORT2 they score
a propensity of 43 under the defaults and 80 under these, with the same AUC."""


def detection(
    real: Floats,
    synthetic: Floats,
    columns: Columns,
    rng: np.random.Generator,
    *,
    trees: Mapping[str, Any] = MappingProxyType({}),
    rounds: int = ROUNDS,
) -> tuple[float, float]:
    """Whether trees tell real rows [n >= 3, columns] from synthetic ones [m >= 3, columns].

    Cross-fitted, both tables weighing the same.

    Args:
        real: the one table.
        synthetic: the other.
        columns: the public schema.
        rng: draws the folds.
        trees: XGBoost's parameters that are to differ from `TREES`.
        rounds: how many trees.

    Returns:
        The propensity score 1 - 2 mean |p - 0.5|, and the area under the ROC curve; 1 and 0.5 where nothing tells.
    """
    rows = np.concatenate([real, synthetic])
    truth = np.repeat([0.0, 1.0], [len(real), len(synthetic)])
    weights = np.repeat([0.5 / len(real), 0.5 / len(synthetic)], [len(real), len(synthetic)]) * len(rows)
    folds = np.concatenate([rng.permutation(len(table)) % FOLDS for table in (real, synthetic)])
    guesses = np.empty(len(rows))
    for fold in range(FOLDS):
        here = folds == fold
        data = _data(rows[~here], columns.values(), truth[~here], weights[~here])
        judge = _train({**trees, "objective": "binary:logistic"}, data, rounds)
        guesses[here] = judge.predict(_data(rows[here], columns.values()))
    propensity = 1 - 2 * np.average(np.abs(guesses - 0.5), weights=weights)
    return float(propensity), float(roc_auc_score(truth, guesses, sample_weight=weights))


def score(training: Floats, test: Floats, columns: Columns, target: str) -> float | None:
    """How well trees that learnt from one table predict a column of another.

    Returns:
        Macro-F1 of a category, D² absolute error of a quantity; None where either table lacks the target's values.
    """
    column, place = columns[target], list(columns).index(target)
    others = [other for name, other in columns.items() if name != target]
    known, asked = (table[~np.isnan(table[:, place])] for table in (training, test))
    if not others or not len(known) or len(asked) < 2 or _single(column):
        return None
    data = _data(np.delete(known, place, axis=1), others, known[:, place])
    guesses = _train(_objective(column), data).predict(_data(np.delete(asked, place, axis=1), others))
    if isinstance(column, Category):
        return float(f1_score(asked[:, place], guesses.argmax(axis=1), average="macro"))
    if np.ptp(asked[:, place]) == 0:
        return None
    return float(d2_absolute_error_score(asked[:, place], guesses))


def measure_of(column: Column) -> str:
    """What `score` is for such a column."""
    return "macro-F1" if isinstance(column, Category) else "D² absolute error"


def _single(column: Column) -> bool:
    return isinstance(column, Category) and len(column.categories) == 1


def _objective(column: Column) -> dict[str, Any]:
    if isinstance(column, Category):
        return {"objective": "multi:softprob", "num_class": len(column.categories)}
    return {"objective": "reg:absoluteerror"}


def _train(objective: dict[str, Any], data: xgboost.DMatrix, rounds: int = ROUNDS) -> xgboost.Booster:
    return xgboost.train({**TREES, **objective}, data, rounds)


def _data(rows: Floats, columns: Any, truth: Floats | None = None, weights: NDArray[np.float64] | None = None) -> Any:
    types = ["c" if isinstance(column, Category) else "q" for column in columns]
    if truth is None:
        return xgboost.DMatrix(rows, feature_types=types, enable_categorical=True, nthread=1)
    return xgboost.QuantileDMatrix(rows, truth, weight=weights, feature_types=types, enable_categorical=True, nthread=1)
