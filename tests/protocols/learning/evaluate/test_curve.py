"""The more noise, the less do leaked pairs tell, down to nothing; and the figures repeat themselves."""

import numpy as np

from protocols.learning.evaluate.curve import noise_points
from protocols.silofuse.claim import deviation, mechanism_of
from protocols.silofuse.noised import Encoder

from .conftest import Trial


def test_leaked_pairs_tell_less_with_every_level_of_noise_and_in_the_end_nothing(trial: Trial) -> None:
    deviations = {epsilon: deviation(mechanism_of(epsilon, 1e-5), trial.columns) for epsilon in (1.0, 50.0, 10.0)}
    latents = Encoder.draw(trial.columns).encode(trial.training)
    points = noise_points(latents, trial.training, trial.columns, deviations)
    assert [point.epsilon for point in points] == [None, 50.0, 10.0, 1.0]
    r2 = [point.inversion.r2_500 for point in points]
    hits = [point.inversion.accuracy_500 for point in points]
    assert all(value is not None for value in (*r2, *hits))
    assert r2[0] > 0.7 > r2[1] > r2[2] >= r2[3]  # type: ignore[operator]
    assert r2[3] < 0.05  # type: ignore[operator]
    assert hits[0] > 0.95 > hits[1] > hits[2]  # type: ignore[operator]
    assert points[0].inversion.majority is not None
    assert hits[3] < points[0].inversion.majority + 0.05  # type: ignore[operator]
    again = noise_points(latents, trial.training, trial.columns, deviations)
    assert again == points


def test_few_rows_give_the_figures_that_they_can(trial: Trial) -> None:
    few = trial.training.head(60)
    points = noise_points(np.eye(60), few, trial.columns, {5.0: 1.0})
    assert [point.inversion.r2_500 for point in points] == [None, None]
    assert points[0].inversion.r2_20 is not None
