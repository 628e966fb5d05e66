"""What leaked pairs would tell under more and more noise: the price list of a claim, on a silo's own rows.

The linear attack alone is run: the encoder that carries a claim is linear in its codes, and from 500 pairs a neural
network finds hardly anything under noise that this attack does not. A level takes some 20 ms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from protocols.learning.evaluate.arrays import Floats
from protocols.learning.evaluate.inversion import MOST_ROWS, inversion
from protocols.learning.evaluate.report import NoisePoint
from protocols.learning.schema import Columns

_LEAKED = 500


def noise_points(
    latents: Floats, table: pd.DataFrame, columns: Columns, deviations: Mapping[float, float], seed: int = 0
) -> tuple[NoisePoint, ...]:
    """Attack latents [n, width] of a table [n] without noise, then with noise of each deviation.

    Args:
        latents: without noise.
        table: the rows behind them.
        columns: their schema.
        deviations: of the noise on each dimension, by the ε that it stands for.
        seed: of the noise and the rows that are drawn; no secret: nothing of this leaves.
    """
    few = np.random.default_rng([seed, 0]).permutation(len(table))[: MOST_ROWS + _LEAKED]
    rows, clean = table.iloc[few].reset_index(drop=True), latents[few]

    def attacked(deviation: float, stream: int) -> Floats:
        return np.asarray(clean + deviation * np.random.default_rng([seed, stream]).standard_normal(clean.shape))

    levels = [(None, 0.0), *sorted(deviations.items(), reverse=True)]
    return tuple(
        NoisePoint(
            epsilon=epsilon,
            inversion=inversion(attacked(deviation, place + 1).astype(np.float32), rows, columns, network=False),
        )
        for place, (epsilon, deviation) in enumerate(levels)
    )
