"""The downstream model of the pool's demo: a logistic regression over the declared columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from protocols.learning.schema import Category, Columns


class Scores(NamedTuple):
    """Of a binary classifier, each from 0 to 1; F1 of the second class."""

    accuracy: float
    f1: float
    auc: float


def score(training: pd.DataFrame, held_out: pd.DataFrame, columns: Columns, label: str) -> Scores:
    """Fit on one table, measure on another.

    Args:
        training: the declared columns as text, missing values blank.
        held_out: the same, of other people.
        columns: the public schema.
        label: a category of two.
    """
    classes = columns[label].categories  # type: ignore[union-attr]  # the label is a category
    model = LogisticRegression(max_iter=2000, class_weight="balanced")
    model.fit(_features(training, columns, label), training[label] == classes[1])
    truth, features = held_out[label] == classes[1], _features(held_out, columns, label)
    probability = model.predict_proba(features)[:, 1]
    guess = probability > 0.5
    return Scores(accuracy_score(truth, guess), f1_score(truth, guess), roc_auc_score(truth, probability))


def _features(table: pd.DataFrame, columns: Columns, label: str) -> np.ndarray:
    """Numbers scaled by their public bounds, with a flag where they are missing; categories one-hot."""
    parts = []
    for name, column in columns.items():
        if name == label:
            continue
        if isinstance(column, Category):
            parts += [table[name] == category for category in column.categories]
        else:
            values = pd.to_numeric(table[name], errors="coerce")
            spread = 10 * (values - column.min) / (column.max - column.min)  # type: ignore[union-attr, operator]
            parts += [spread.fillna(spread.median()).fillna(0), values.isna()]
    return np.column_stack(parts).astype(float)
