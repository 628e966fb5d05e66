"""Games over the real training step: the same release over and over, on two data sets that differ in one record.

The model is a single weight and a row is its own gradient, so a row of norm `clip` or more is the worst case. What is
scored is the released noisy gradient itself, in the direction of the canary: the attacker sees every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from protocols.learning.clipped import ClippedSum, kept
from protocols.learning.dpsgd import Plan, Steps
from protocols.learning.noise import Noise
from services.mechanism import Event, Repeated
from tests.audit.bound import Finding, Scores, audited

CLIP = 1.0
FAR = 1e3
"""A gradient that only clipping keeps small."""

StepsOf = Callable[[ClippedSum, Tensor, Plan, Noise], Steps]


@dataclass(frozen=True)
class Game:
    """Two neighbouring data sets under one plan.

    Attributes:
        title: what is told apart.
        rows: the records [n, 1] that both have.
        canary: the record that one has.
        plan: of one trial.
    """

    title: str
    rows: tuple[float, ...]
    canary: float
    plan: Plan

    def play(self, trials: int, confidence: float, steps: StepsOf = Steps, clip: float = CLIP) -> Finding:
        """Audit a kind of step; `clip` is what gradients are clipped to, whatever the plan says."""
        absent, claim = self._scores(self.rows, trials, steps, clip)
        present, _ = self._scores((*self.rows, self.canary), trials, steps, clip)
        return audited(absent, present, claim, confidence)

    def _scores(self, rows: tuple[float, ...], trials: int, steps: StepsOf, clip: float) -> tuple[Scores, Event]:
        """A score [trials] of each trial, and what one trial claims to have executed."""
        data = torch.tensor(rows)[:, None] if rows else torch.empty(0, 1)
        count = trials * self.plan.steps
        model = nn.Linear(1, 1, bias=False)
        with kept(model, first, clip, torch.rand(3, 1)) as sums, steps(sums, data, self.plan, Noise()) as running:
            means = torch.stack([running.gradient().clone() for _ in range(count)])
            released = means.double().numpy() * self.plan.batch
            executed = running.executed
        assert isinstance(executed, Repeated)
        claim = Repeated(count=max(1, executed.count // trials), of=executed.of)
        return self._score(released.reshape(trials, self.plan.steps)), claim

    def _score(self, released: Scores) -> Scores:
        """The logarithm of how much likelier a trial [steps] is with the canary: the best score, known rows aside."""
        x = np.sign(self.canary) * (released - self.plan.rate * sum(np.sign(self.rows)))
        tilt = (2 * x - 1) / (2 * self.plan.noise_multiplier**2)
        rate = self.plan.rate
        return np.logaddexp(np.log1p(-rate) if rate < 1 else -np.inf, np.log(rate) + tilt).sum(axis=1)


def first(model: nn.Module, batch: Tensor) -> Tensor:
    """A loss whose gradient is the row."""
    out: Tensor = model(batch)
    return out[:, 0]


ONE = Plan(records=8, rate=1.0, steps=1, clip=CLIP, noise_multiplier=1.0)
EMPTY = Game("one step: nobody or one person", (), FAR, ONE)
FEWER = Game("one step: 7 or 8 people", (1.0,) * 7, -FAR, ONE)
MORE = Game("four steps: 8 or 9 people", (1.0,) * 8, -FAR, replace(ONE, steps=4))
SAMPLED = Game("one Poisson step: 16 or 17 people", (1.0,) * 16, -FAR, replace(ONE, records=16, rate=0.9))
POISSON = Game("5 Poisson steps: nobody or one", (), FAR, replace(ONE, rate=0.2, steps=5, noise_multiplier=0.3))
"""With so little noise that it shows whether a record takes part once for sure or only perhaps."""
GAMES = (EMPTY, FEWER, MORE, SAMPLED, POISSON)


def many_canaries(trials: int, confidence: float, width: int = 256) -> Finding:
    """One Gaussian step with a canary for every coordinate, each there or not by a coin: so many trials at once.

    Each is a person of its own whose gradient is clipped by itself, and noise is independent between coordinates.
    """
    there = np.random.default_rng().random((trials // width, width)) < 0.5
    model = nn.Linear(width, 1, bias=False)
    rows = FAR * torch.eye(width)
    scores = np.empty(there.shape)
    event = None
    for row, canaries in zip(scores, there, strict=True):
        data = rows[torch.from_numpy(canaries)]
        with kept(model, first, CLIP, torch.rand(3, width)) as sums, Steps(sums, data, ONE, Noise()) as steps:
            row[:] = steps.gradient().numpy()
            event = steps.executed
    assert event is not None
    return audited(scores[~there], scores[there], event, confidence)
