"""Latents that give rows away are said to, and random numbers are not."""

import numpy as np
import pytest

from protocols.learning.evaluate.inversion import inversion
from protocols.learning.schema import Integer

from .conftest import Trial


@pytest.fixture(scope="module")
def codes(trial: Trial) -> np.ndarray:
    age = trial.training["age"].to_numpy(np.float64)
    labels = [trial.training[name].cat.codes.to_numpy(np.float64) for name in ("sex", "smoker", "died")]
    known = trial.training[["pressure", "cost"]].fillna(130.0).to_numpy()
    parts = np.column_stack([age, known, (trial.training["admitted"].astype("int64") / 86400), *labels])
    parts = np.column_stack([parts, labels[1] == 0, labels[1] == 1])
    return (parts - parts.mean(axis=0)) / parts.std(axis=0)


def test_a_rotation_hides_nothing_from_who_knows_enough_rows(trial: Trial, codes: np.ndarray) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((codes.shape[1],) * 2))[0]
    found = inversion((codes @ turn).astype(np.float32), trial.training, trial.columns)
    assert found.r2_20 is not None
    assert found.r2_500 is not None
    assert found.accuracy_500 is not None
    assert found.majority is not None
    assert found.r2_500 > 0.85
    assert found.r2_500 > found.r2_20 > 0.3
    assert found.accuracy_500 > 0.95 > found.majority


def test_random_numbers_give_nothing_away(trial: Trial, codes: np.ndarray) -> None:
    noise = np.random.default_rng(1).standard_normal(codes.shape).astype(np.float32)
    found = inversion(noise, trial.training, trial.columns)
    assert found.r2_500 is not None
    assert found.accuracy_500 is not None
    assert found.majority is not None
    assert found.r2_500 < 0.05
    assert found.accuracy_500 < found.majority + 0.05


def test_what_cannot_be_measured_is_null(trial: Trial, codes: np.ndarray) -> None:
    few = inversion(codes[:100].astype(np.float32), trial.training.head(100), trial.columns)
    assert few.r2_20 is not None
    assert few.r2_500 is None
    named = {name: column for name, column in trial.columns.items() if column.type == "category"}
    assert inversion(codes.astype(np.float32), trial.training, named).r2_500 is None
    constant = {"age": Integer(type="integer", min=0, max=120)}
    table = trial.training.assign(age=trial.training["age"] * 0)
    assert inversion(codes.astype(np.float32), table, constant).r2_500 is None
