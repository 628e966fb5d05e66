"""Do synthetic rows lie nearer to the rows that training saw than to rows that it did not see?"""

from __future__ import annotations

import numpy as np

from protocols.learning.evaluate.arrays import Floats, Space
from protocols.learning.schema import Columns

MOST_ROWS = 5000
"""Rows of each kind that are compared at most."""

TIE = 1e-9


def memorisation(
    training: Floats, held_out: Floats, synthetic: Floats, columns: Columns, rng: np.random.Generator
) -> tuple[float, float]:
    """The share of synthetic rows nearer to a training row than to one of equally many held-out rows; ties count half.

    0.5 is ideal: synthetic rows do not know what training saw. Copies of training rows score 0.5 plus half the ratio
    of held-out to training rows, at least.

    Returns:
        The share, and its standard error, at most, if it were chance which real rows training saw: what one decides
        for all synthetic rows around it does not average out, however many of these there are.
    """
    size = min(len(training), len(held_out), MOST_ROWS)
    ours, theirs = (table[rng.permutation(len(table))[:size]] for table in (training, held_out))
    asked = synthetic[rng.permutation(len(synthetic))[:MOST_ROWS]]
    (to_training, near_training), (to_held_out, near_held_out) = Space(columns, synthetic).nearest(asked, ours, theirs)
    tied = np.abs(to_training - to_held_out) <= TIE
    nearer = to_training < to_held_out
    deciders = np.where(nearer, near_training, size + near_held_out)[~tied]
    error = 0.5 * np.sqrt((np.bincount(deciders) ** 2).sum()) / len(asked)
    return float(np.mean(np.where(tied, 0.5, nearer))), float(error)
