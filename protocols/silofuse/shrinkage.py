"""What the coordinator can take out of noise that it knows: the latents' covariance, as it was before.

A model of noised rows is a model of noise, which hardly relates two columns any more. But the noise is independent
with a known variance, so that the covariance of the rows without it is known better than any row. The eigenvalues that
stand out of the noise are shrunk as Donoho, Gavish and Johnstone (Annals of Statistics 46, 2018) prove best for the
Frobenius norm; the others share what variance is left. Then the rows are scaled along the eigenvectors, so that they
have this covariance. All of it is made of released latents, so that no claim changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.learning.codes import Floats


@dataclass(frozen=True)
class Shrinkage:
    """How rows are moved: about their mean [width], by a matrix [width, width]."""

    mean: Floats
    turn: Floats

    @classmethod
    def of(cls, blocks: Iterable[NDArray[np.float32]], deviations: Floats) -> Shrinkage:
        """Look at all rows, block by block [n, width].

        Args:
            blocks: at least one, of at least one row.
            deviations: of the independent noise in each dimension [width].
        """
        count, width = 0, len(deviations)
        about, sums, moments = np.zeros(width), np.zeros(width), np.zeros((width, width))
        for block in blocks:
            if not count:
                about = block.mean(axis=0, dtype=np.float64)  # near the mean: squares are then summed without loss
            units = (block - about) / deviations
            count += len(block)
            sums += units.sum(axis=0)
            moments += units.T @ units
        mean = sums / count
        found, axes = np.linalg.eigh(moments / count - np.outer(mean, mean))
        turn = (axes * _gains(found, count)) @ axes.T
        return cls(about + mean * deviations, turn / deviations[:, None] * deviations)

    def __call__(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows [n, width] with the covariance that they have without their noise."""
        return np.asarray(self.mean + (block - self.mean) @ self.turn, dtype=np.float32)


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
