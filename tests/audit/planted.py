"""The mistakes that private training is known for, each planted into the real step by the smallest change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from protocols.learning.dpsgd import Draw, Steps
from protocols.learning.noise import Noise
from tests.audit.games import CLIP, FEWER, MORE, POISSON, SAMPLED, Game, StepsOf


class NoNoise(Steps):
    def draw(self) -> Draw:
        rows, noise = super().draw()
        return rows, [piece * 0 for piece in noise]


class ReusedSeed(Steps):
    def draw(self) -> Draw:
        self._noise = Noise(bytes(32))
        return super().draw()


class ClippedBatch(Steps):
    """The batch's sum is clipped, not the samples'."""

    def gradient(self) -> Tensor:
        def add_up(batch: Tensor) -> None:
            whole = batch.sum(dim=0)
            self._sums.total.copy_(whole * min(1.0, self._plan.clip / (float(whole.norm()) + 1e-12)))

        self._sums.add_up = add_up  # type: ignore[method-assign]
        return super().gradient()


class Shuffled(Steps):
    """Epochs of a shuffled order in equal batches, claimed as Poisson samples."""

    def draw(self) -> Draw:
        _, noise = super().draw()
        if not getattr(self, "_epoch", None):
            # where each record of an epoch stands; one record stands in one batch of it
            batches = round(1 / self._plan.rate)
            place = np.random.default_rng().permuted(np.arange(len(self._data)) % batches)
            turn = np.random.default_rng().integers(batches)
            self._epoch = [np.flatnonzero((place + turn) % batches == batch) for batch in range(batches)]
        return self._epoch.pop(), noise


class DividedByLength(Steps):
    def gradient(self) -> Tensor:
        return super().gradient() * self._plan.records / max(1, len(self._data))


class DividedByBatch(Steps):
    def draw(self) -> Draw:
        drawn = super().draw()
        self.__dict__.setdefault("_sizes", []).append(len(drawn[0]))
        return drawn

    def gradient(self) -> Tensor:
        mine = self._count
        return super().gradient() * self._plan.batch / max(1, self._sizes[mine])


class ForgottenSteps(Steps):
    """Three steps of four are not counted."""

    def gradient(self) -> Tensor:
        out = super().gradient()
        self._turn = (getattr(self, "_turn", -1) + 1) % 4
        self._count -= self._turn > 0
        return out


@dataclass(frozen=True)
class Planted:
    """A mistake, and the game that finds it."""

    title: str
    game: Game
    steps: StepsOf = Steps
    clip: float = CLIP
    trials: int = 1000


PLANTED = (
    Planted("no noise", FEWER, NoNoise),
    Planted("a reused seed", FEWER, ReusedSeed),
    Planted("the batch is clipped, not the sample", FEWER, ClippedBatch),
    Planted("clipped to twice the norm", FEWER, clip=2 * CLIP),
    Planted("divided by the number of records", FEWER, DividedByLength, trials=2000),
    Planted("divided by the realised batch", SAMPLED, DividedByBatch, trials=2000),
    Planted("shuffled, claimed as Poisson", POISSON, Shuffled),
    Planted("steps that were not counted", MORE, ForgottenSteps),
)
