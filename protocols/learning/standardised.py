"""Latents as training sees them: mean 0 and variance 1, a batch at a time, wherever they lie."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.learning.rows import spans


class Standardised:
    """Latents [n, width] of which batches are taken: from a GPU's memory where they fit, else from where they lie.

    Args:
        latents: finite, in memory or a map of a file.
        device: where batches are wanted.

    Attributes:
        mean: of every dimension [width].
        spread: of every dimension [width]; 0 where it is constant, so that it comes back constant.
    """

    def __init__(self, latents: NDArray[np.float32], device: torch.device) -> None:
        self.device = device
        total, squares = (np.zeros(latents.shape[1]) for _ in range(2))
        for span in spans(len(latents)):
            total += latents[span].sum(axis=0, dtype=np.float64)
        mean = total / len(latents)
        for span in spans(len(latents)):
            squares += np.square(latents[span] - mean).sum(axis=0)
        spread = np.sqrt(squares / len(latents))
        self.mean = torch.from_numpy(mean).float().to(device)
        self.spread = torch.from_numpy(np.where(spread > 1e-6, spread, 0.0)).float().to(device)
        self._divisor = torch.where(self.spread > 0, self.spread, 1.0)
        self._latents = latents
        self._held: Tensor | None = None
        if device.type == "cuda" and 2 * latents.nbytes < torch.cuda.mem_get_info(device)[0]:
            self._held = torch.from_numpy(latents.copy()).to(device)

    def __len__(self) -> int:
        return len(self._latents)

    @property
    def width(self) -> int:
        """Dimensions of a latent."""
        return self._latents.shape[1]

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """The latents of these rows [m, width]."""
        found = torch.from_numpy(self._latents[rows.cpu().numpy()]) if self._held is None else self._held[rows]
        return (found.to(self.device) - self.mean) / self._divisor
