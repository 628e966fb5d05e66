"""What the coordinator can take out of noise that it knows: the latents' covariance, as it was before.

A model of noised rows is a model of noise, which hardly relates two columns any more. But the noise is independent
with a known variance, so that the covariance of the rows without it is known better than any row. The eigenvalues that
stand out of the noise are shrunk as Donoho, Gavish and Johnstone (Annals of Statistics 46, 2018) prove best for the
Frobenius norm; the others share what variance is left. Then the rows are scaled along the eigenvectors, so that they
have this covariance. All of it is made of released latents, so that no claim changes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.learning.codes import Floats
from protocols.learning.rows import spans


def shrink(latents: NDArray[np.float32], deviations: Floats) -> None:
    """Give rows [n >= 2, width] the covariance that they have without their noise, in place, about their mean.

    Args:
        latents: with independent noise.
        deviations: of the noise, for each dimension [width].
    """
    rows, width = latents.shape
    parts = spans(rows)
    mean = sum(latents[part].sum(axis=0, dtype=np.float64) for part in parts) / rows
    moments = np.zeros((width, width))
    for part in parts:
        centred = (latents[part] - mean) / deviations
        moments += centred.T @ centred / rows
    found, axes = np.linalg.eigh(moments)
    turn = (axes * _gains(found, rows)) @ axes.T
    for part in parts:
        latents[part] = mean + ((latents[part] - mean) / deviations) @ turn * deviations


def _gains(found: Floats, rows: int) -> Floats:
    """What each axis is multiplied by, given its variance [width] with noise of variance 1."""
    width = len(found)
    wanted = _signal(found, width / rows)
    # so little that chance explains it: where nothing stands out, no axis is told from another
    left = max((found.sum() - width - wanted.sum()) / max(1, (wanted == 0).sum()), 2 / math.sqrt(rows * width))
    return np.asarray(np.sqrt(np.maximum(wanted, left) / np.maximum(found, 1e-12)))


def _signal(found: Floats, ratio: float) -> Floats:
    """What of eigenvalues [width] is not noise of variance 1; 0 for those that do not stand out of it."""
    out = np.zeros_like(found)
    ahead = found > (1 + math.sqrt(ratio)) ** 2
    middle = found[ahead] + 1 - ratio
    spike = (middle + np.sqrt(np.maximum(middle**2 - 4 * found[ahead], 0.0))) / 2 - 1
    # an axis that was found is turned away from the true one by so much
    out[ahead] = spike * np.maximum(1 - ratio / spike**2, 0.0) / (1 + ratio / spike)
    return out
