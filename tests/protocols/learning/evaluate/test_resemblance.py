"""Every part of the resemblance moves when what it names goes wrong, and is 1 for a table beside itself."""

import numpy as np
import pandas as pd
import pytest

from protocols.learning.evaluate.arrays import Space, matrix
from protocols.learning.evaluate.resemblance import association, correlation, flagged, marginals

from .conftest import Trial, shuffled


def test_a_table_resembles_itself_in_every_part(trial: Trial) -> None:
    table = matrix(trial.fresh, trial.columns)
    found = marginals(table, table, trial.columns)
    assert np.allclose([found.column, found.js, found.ks], 1)
    flags = flagged(table, trial.columns)
    related = association(table, trial.columns, flags)
    assert correlation(related, related) == 1


def test_a_shifted_column_and_no_other_loses(trial: Trial) -> None:
    real = matrix(trial.fresh, trial.columns)
    moved = real.copy()
    moved[:, 0] = np.clip(moved[:, 0] + 15, 0, 120)
    found = marginals(real, moved, trial.columns)
    assert found.ks[0] < 0.8
    assert found.js[0] < 0.8
    assert np.allclose([found.ks[1:], found.js[1:]], 1)


def test_labels_in_other_shares_lose_their_total_variation(trial: Trial) -> None:
    real = matrix(trial.fresh, trial.columns)
    place = list(trial.columns).index("sex")
    changed = real.copy()
    changed[:, place] = 0
    found = marginals(real, changed, trial.columns)
    assert found.column[place] == pytest.approx(np.mean(real[:, place] == 0))


def test_relations_are_those_of_the_textbooks(trial: Trial) -> None:
    related = association(matrix(trial.fresh, trial.columns), trial.columns, [])
    names = list(trial.columns)
    age, pressure, died, sex = (names.index(name) for name in ("age", "pressure", "died", "sex"))
    expected = trial.fresh[["age", "pressure"]].astype(float).corr().iloc[0, 1]
    assert related[age, pressure] == pytest.approx(expected)
    groups = trial.fresh["age"].astype(float).groupby(trial.fresh["died"], observed=True)
    between = (groups.size() * (groups.mean() - trial.fresh["age"].astype(float).mean()) ** 2).sum()
    total = trial.fresh["age"].astype(float).var(ddof=0) * len(trial.fresh)
    assert related[died, age] == related[age, died] == pytest.approx(np.sqrt(between / total))
    joint = pd.crosstab(trial.fresh["sex"], trial.fresh["died"], normalize=True).to_numpy()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    told = (joint * np.log(joint / np.outer(rows, columns))).sum()
    assert related[sex, died] == pytest.approx(told / -(rows * np.log(rows)).sum())


def test_a_missingness_that_follows_another_column_counts_as_a_relation(trial: Trial) -> None:
    real = trial.fresh.copy()
    real.loc[real["age"] > 60, "pressure"] = np.nan
    flags = flagged(matrix(real, trial.columns), trial.columns)
    assert flags == [list(trial.columns).index("pressure")]
    related, lost = (association(matrix(t, trial.columns), trial.columns, flags) for t in (real, shuffled(real)))
    assert related[0, -1] > 0.7
    assert lost[0, -1] < 0.1


def test_distances_are_zero_to_a_copy_and_grow_with_every_difference(trial: Trial) -> None:
    rows = matrix(trial.fresh, trial.columns)
    space = Space(trial.columns, rows)
    [(own, places)] = space.nearest(rows[:50], rows)
    assert np.allclose(own, 0)
    assert places.tolist() == list(range(50))
    changed = rows[:1].copy()
    distances = []
    for place, value in ((1, 1 - changed[0, 1]), (3, np.nan), (0, 119)):
        changed[0, place] = value
        distances.append(space.nearest(changed, rows[:1])[0][0][0])
    assert distances[0] == pytest.approx(1)
    assert distances[1] >= distances[0] + 0.5
    assert distances[1] < distances[2] <= distances[1] + 1


def test_neighbours_come_nearest_first(trial: Trial) -> None:
    rows = matrix(trial.fresh, trial.columns)
    found = Space(trial.columns, rows).neighbours(rows[:1500:100], 3)
    assert found[:, 0].tolist() == list(range(0, len(rows[:1500]), 100))
