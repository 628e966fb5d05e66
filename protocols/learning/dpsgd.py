"""Private training: what a model learns from one person is bounded and covered by noise, and the claim is counted.

DP-SGD (Abadi et al., CCS 2016) as its proof wants it. Every step takes each record with a public probability, sums
the clipped gradients, adds normal noise and divides by the expected batch: a public number, since the realised one
would tell how many records there are. An empty sample takes its noisy step like any other. How many steps there are
is public, no loss is reported and no step fails for what the data hold. The event that is returned is counted by the
loop while it adds noise, not copied from the plan.

The sum is rounded to float32 only after noise was added in float64. The sample and the noise of the next step are
drawn on a second core meanwhile: they depend on nothing that the step computes. Where there is none, noise is added
piece by piece as it is drawn, while it is in the core's cache.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protocols.learning.clipped import ClippedSum, Loss, kept
from protocols.learning.noise import Noise
from services.contract import ProgressCallback
from services.errors import ConfigError
from services.mechanism import Event, Gaussian, Repeated, Sampled, calibrated

Draw = tuple[NDArray[np.intp], Iterable[NDArray[np.float64]]]

REPORT_STEPS = 20
_PROBE_ROWS = 3
_PIECE = 1 << 15  # numbers added at a time: of all at once, torch would make copies in float64


@dataclass(frozen=True)
class Plan:
    """What everybody may know of a private training.

    Attributes:
        records: how many records are declared to be there; not how many there are.
        rate: the probability with which each takes part in a step; 1 for all in every step.
        steps: how many there are.
        clip: the greatest norm of one record's gradient.
        noise_multiplier: the noise's standard deviation over `clip`.
        learning_rate: Adam's.

    Raises:
        ConfigError: a quantity is out of range.
    """

    records: int
    rate: float
    steps: int
    clip: float
    noise_multiplier: float
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        positive = (self.records, self.rate, self.steps, self.clip, self.noise_multiplier, self.learning_rate)
        if min(positive) <= 0 or self.rate > 1:
            raise ConfigError("every quantity of a private training is above 0, and its rate at most 1")

    @property
    def batch(self) -> float:
        """The expected number of records in a step: what their sum is divided by."""
        return self.rate * self.records

    @property
    def event(self) -> Event:
        """What the training will have done once all its steps are."""
        return _event(self.steps, self.rate, self.noise_multiplier)

    @classmethod
    def within(
        cls, epsilon: float, delta: float, *, records: int, rate: float, steps: int, clip: float, learning_rate: float
    ) -> Plan:
        """The plan with hardly more noise than keeps its event within ε at δ.

        Raises:
            ConfigError: a quantity is out of range, or no noise is enough.
        """
        cls(records, rate, steps, clip, 1.0, learning_rate)  # before time is spent on a rate of 7
        try:
            event = calibrated(partial(_event, steps, rate), epsilon, delta)
        except ValueError as error:
            raise ConfigError(f"no private training keeps within this: {error}") from error
        return cls(records, rate, steps, clip, _one(event).noise_multiplier, learning_rate)


def _event(steps: int, rate: float, noise_multiplier: float) -> Event:
    one = Gaussian(noise_multiplier=noise_multiplier)
    return Repeated(count=steps, of=one if rate == 1 else Sampled(rate=rate, noise_multiplier=noise_multiplier))


def _one(event: Event) -> Gaussian | Sampled:
    assert isinstance(event, Repeated)  # noqa: S101 - what _event makes
    return event.of


def train(  # noqa: PLR0917 - what to train, and how
    model: nn.Module, loss: Loss, data: Tensor, plan: Plan, noise: Noise, progress: ProgressCallback
) -> Event:
    """Train a model in place on records [n, width], n private.

    Args:
        model: of linear layers and elementwise activations, on the data's device; left as an ordinary module.
        loss: the losses of a batch's rows, each from its own row and fresh randomness alone.
        data: one row for each person.
        plan: the public quantities.
        noise: where samples and noise come from.
        progress: called every few steps, without a loss, for that is private; what it raises ends the training.

    Returns:
        What was executed, for the claim.

    Raises:
        ConfigError: the model or the loss could let one record change what another adds.
    """
    probe = torch.from_numpy(noise.uniform((_PROBE_ROWS, data.shape[1]))).to(data)
    with kept(model, loss, plan.clip, probe) as sums, Steps(sums, data, plan, noise) as steps:
        weights = nn.Parameter(sums.values)
        adam = torch.optim.Adam([weights], lr=plan.learning_rate, fused=True)
        for step in range(1, plan.steps + 1):
            weights.grad = steps.gradient()
            adam.step()
            if step % REPORT_STEPS == 0 or step == plan.steps:
                progress("private training", step, plan.steps, None)
        return steps.executed


class Steps:
    """The noisy gradients of a training, one after another, and the count of them.

    A context manager. Where there is a second core, a thread of its own draws everything random a step ahead.
    """

    def __init__(self, sums: ClippedSum, data: Tensor, plan: Plan, noise: Noise) -> None:
        self._sums, self._data, self._plan, self._noise = sums, data, plan, noise
        self._count = 0
        alone = len(os.sched_getaffinity(0)) == 1
        self._thread = None if alone else ThreadPoolExecutor(1, thread_name_prefix="noise")
        self._memory = deque(() if alone else np.empty((2, sums.total.numel())))
        self._drawn = self._ahead()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    @property
    def executed(self) -> Event:
        """What was done so far.

        Raises:
            ValueError: nothing was.
        """
        return _event(self._count, self._plan.rate, self._plan.noise_multiplier)

    def gradient(self) -> Tensor:
        """The noisy mean gradient [p] over a fresh sample: all that a step lets out. The next overwrites it."""
        (rows, noise), self._drawn = self._drawn(), self._ahead()
        self._sums.add_up(self._data[torch.from_numpy(rows).to(self._data.device)])
        total, first = self._sums.total, 0
        self._count += 1
        for piece in noise:
            part = total[first : first + len(piece)]
            first += len(piece)
            # in one pass: added in float64, and rounded after
            torch.add(torch.from_numpy(piece).to(part.device), part, alpha=1 / self._plan.batch, out=part)
        return total

    def _ahead(self) -> Callable[[], Draw]:
        return self.draw if self._thread is None else self._thread.submit(self.draw).result

    def draw(self) -> Draw:
        """All that is random in a step: the records that take part, possibly none, and the mean's noise in pieces."""
        rows = self._noise.poisson_sample(len(self._data), self._plan.rate)
        scale = self._plan.noise_multiplier * self._plan.clip / self._plan.batch
        count = self._sums.total.numel()
        if not self._memory:
            return rows, self._noise.pieces(count, scale)
        self._memory.rotate()  # the step that is under way uses the other half
        return rows, np.split(self._noise.normal(count, scale, self._memory[0]), range(_PIECE, count, _PIECE))
