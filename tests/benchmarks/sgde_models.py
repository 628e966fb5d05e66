"""Logistic regression as the benchmark of SGDE asks for it: on local rows, by federated averaging, on a pool's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from protocols.sgde.families.scale import layout
from tests.benchmarks.sgde_tables import Task

Floats = NDArray[np.float64]
Rows = tuple[Floats, Floats]
FOLDS, ROUNDS, LOCAL_STEPS, RATE = 10, 60, 5, 0.5


@dataclass(frozen=True)
class Result:
    """Accuracy, F1 and AUC in percent [3], on the held-out test and on the silos' own rows."""

    test: Floats
    local: Floats


def rows(table: pd.DataFrame, task: Task) -> Rows:
    """Features [n, width] on the public scale and labels [n], for every kind of training alike."""
    parts = layout(task.columns, task.parameters("tan", 1))
    units = [scale.units(table) for scale in parts.scales]
    gaps = [missing for scale, (_, missing) in zip(parts.scales, units, strict=True) if scale.column.missing]
    chosen = [row for choice in parts.choices for row in np.eye(choice.size)[choice.places(table)].T]
    columns = [*(column for column, _ in units), *gaps, *chosen]
    return np.column_stack(columns).astype(np.float64), (table[task.label] == task.positive).to_numpy(np.float64)


def fit(x: Floats, y: Floats, weight: Floats | None = None) -> Pipeline:
    """A standardised logistic regression."""
    model = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    return model.fit(x, y, standardscaler__sample_weight=weight, logisticregression__sample_weight=weight)


def _measure(y: Floats, chance: Floats) -> Floats:
    area = roc_auc_score(y, chance) if len(np.unique(y)) > 1 else np.nan
    return 100 * np.array([accuracy_score(y, chance > 0.5), f1_score(y, chance > 0.5, zero_division=0), area])


def _mean(results: Sequence[Floats]) -> Floats:
    return np.asarray(np.nanmean(np.stack(results), axis=0))


def synthetic(made: Rows, test: Rows, silos: Sequence[Rows]) -> Result:
    """One model of a pool's rows, on the test and on every silo's whole table."""
    model = fit(*made)
    chances = [model.predict_proba(x)[:, 1] for x, _ in silos]
    return Result(
        _measure(test[1], model.predict_proba(test[0])[:, 1]),
        _mean([_measure(y, chance) for (_, y), chance in zip(silos, chances, strict=True)]),
    )


def by_silo(test: Rows, silos: Sequence[Rows], made: Rows | None = None) -> Result:
    """A model of each silo's own rows; with a pool's rows beside them, which weigh as much as the own altogether."""
    results = [(_measure(test[1], _own(silo, test[0], made)), _crossed(silo, made)) for silo in silos]
    return Result(_mean([on_test for on_test, _ in results]), _mean([on_own for _, on_own in results]))


def _own(silo: Rows, x: Floats, made: Rows | None) -> Floats:
    xs, ys, weight = *silo, np.ones(len(silo[0]))
    if made is not None:
        share = len(xs) / len(made[0])
        weight = np.concatenate([weight, np.full(len(made[0]), share)])
        xs, ys = np.concatenate([xs, made[0]]), np.concatenate([ys, made[1]])
    if len(np.unique(ys)) < 2:
        return np.full(len(x), ys[0])
    return np.asarray(fit(xs, ys, weight).predict_proba(x)[:, 1])


def _crossed(silo: Rows, made: Rows | None) -> Floats:
    x, y = silo
    chance = np.empty(len(y))
    for rest, fold in KFold(FOLDS, shuffle=True, random_state=0).split(x):
        chance[fold] = _own((x[rest], y[rest]), x[fold], made)
    return _measure(y, chance)


def federated(test: Rows, silos: Sequence[Rows]) -> Result:
    """FedAvg (McMahan et al., 2017) on nine tenths of each silo, measured on the others and on the test."""
    kept = [(x[len(x) // FOLDS :], y[len(x) // FOLDS :]) for x, y in silos]
    held = [(x[: len(x) // FOLDS], y[: len(x) // FOLDS]) for x, y in silos]
    weights = np.zeros(test[0].shape[1] + 1)
    sizes = np.array([len(x) for x, _ in kept]) / sum(len(x) for x, _ in kept)
    designs = [(_design(x), y) for x, y in kept]
    for _ in range(ROUNDS):
        locals_ = []
        for x, y in designs:
            own = weights.copy()
            for _ in range(LOCAL_STEPS):
                own -= RATE * x.T @ (expit(x @ own) - y) / len(y)
            locals_.append(own)
        weights = sizes @ np.stack(locals_)
    return Result(
        _measure(test[1], expit(_design(test[0]) @ weights)),
        _mean([_measure(y, expit(_design(x) @ weights)) for x, y in held]),
    )


def _design(x: Floats) -> Floats:
    """Features in [-1, 1] by their public bounds, after a constant."""
    return np.column_stack([np.ones(len(x)), 2 * x - 1])
