"""Do synthetic rows lie nearer to the rows that training saw than to rows that it did not see?"""

from __future__ import annotations

import numpy as np

from protocols.learning.evaluate.arrays import Floats, Space
from protocols.learning.schema import Columns

MOST_ROWS = 5000
"""Rows of each kind that are compared at most: the share's standard error is then 0.007."""

TIE = 1e-9


def memorisation(
    training: Floats, held_out: Floats, synthetic: Floats, columns: Columns, rng: np.random.Generator
) -> float:
    """The share of synthetic rows nearer to a training row than to one of equally many held-out rows; ties count half.

    0.5 is ideal: synthetic rows do not know what training saw. Copies of training rows score 0.5 plus half the ratio
    of held-out to training rows, at least.
    """
    size = min(len(training), len(held_out), MOST_ROWS)
    ours, theirs = (table[rng.permutation(len(table))[:size]] for table in (training, held_out))
    asked = synthetic[rng.permutation(len(synthetic))[:MOST_ROWS]]
    to_training, to_held_out = Space(columns, synthetic).nearest(asked, ours, theirs)
    tied = np.abs(to_training - to_held_out) <= TIE
    return float(np.mean(np.where(tied, 0.5, to_training < to_held_out)))
