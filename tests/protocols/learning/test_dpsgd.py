"""Private training learns, claims exactly what it did, and its releases do not tell how many records there are."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protocols.learning.clipped import kept
from protocols.learning.dpsgd import Plan, Steps, train
from protocols.learning.noise import Noise
from services.errors import ConfigError
from services.mechanism import Gaussian, Mechanism, Repeated, Sampled

KEY = bytes(range(32))
PLAN = Plan(records=1000, rate=0.1, steps=30, clip=1.0, noise_multiplier=1.0)


def silent(phase: str, step: int, total: int, loss: float | None) -> None: ...


def line() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))


def squared(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch[:, :3])
    return (out[:, 0] - batch[:, 3]).square()


def rows(count: int) -> Tensor:
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return torch.cat([x, (x @ torch.tensor([1.0, -1.0, 0.5]))[:, None]], dim=1)


class Counting(Noise):
    def __init__(self) -> None:
        super().__init__(KEY)
        self.scales: list[float] = []
        self.samples: list[int] = []

    def pieces(self, count: int, scale: float = 1.0) -> Iterator[NDArray[np.float64]]:
        self.scales.append(scale)
        return super().pieces(count, scale)

    def poisson_sample(self, count: int, rate: float) -> NDArray[np.intp]:
        sample = super().poisson_sample(count, rate)
        self.samples.append(len(sample))
        return sample


def test_it_learns_a_line_under_a_claim() -> None:
    data = rows(5000)
    plan = Plan.within(3.0, 1e-5, records=5000, rate=0.05, steps=400, clip=1.0, learning_rate=1e-2)
    model = line()
    event = train(model, squared, data, plan, Noise(KEY), silent)
    assert Mechanism(event=event).epsilon(1e-5) <= 3.0
    assert squared(model, rows(500)).mean() < 0.1 < data[:, 3].var() / 10


def test_the_event_is_what_was_executed() -> None:
    noise = Counting()
    event = train(line(), squared, rows(1000), PLAN, noise, silent)
    assert event == PLAN.event == Repeated(count=30, of=Sampled(rate=0.1, noise_multiplier=1.0))
    assert set(noise.scales) == {PLAN.noise_multiplier * PLAN.clip / PLAN.batch}
    assert len(noise.samples) == len(noise.scales)
    assert len(noise.samples) - 30 == (len(os.sched_getaffinity(0)) > 1)  # one was drawn ahead and thrown away
    full = Plan(records=9, rate=1.0, steps=4, clip=1.0, noise_multiplier=2.0)
    assert train(line(), squared, rows(9), full, Noise(), silent) == Repeated(
        count=4, of=Gaussian(noise_multiplier=2.0)
    )


@pytest.mark.parametrize("count", [0, 1, 7])
def test_empty_samples_take_a_noisy_step_like_any_other(count: int) -> None:
    model, noise = line(), Counting()
    before = model[0].weight.detach().clone()
    plan = Plan(records=1000, rate=1e-3, steps=12, clip=1.0, noise_multiplier=1.0)
    assert train(model, squared, rows(1000)[:count], plan, noise, silent) == plan.event
    assert 0 in noise.samples
    assert not torch.equal(model[0].weight, before)


def released(data: Tensor, plan: Plan) -> Tensor:
    """The first noisy gradient under a known key."""
    with kept(line(), squared, plan.clip, rows(3)) as sums, Steps(sums, data, plan, Noise(KEY)) as steps:
        return steps.gradient().clone()


def test_one_record_more_changes_a_release_by_at_most_the_bound_over_the_public_batch() -> None:
    plan = Plan(records=100, rate=1.0, steps=1, clip=0.5, noise_multiplier=1.0)
    data = rows(101)
    for more, less in ((data, data[:100]), (data[:100], data[:99]), (data[:1], data[:0])):
        change = released(more, plan) - released(less, plan)
        assert change.norm() <= 0.5 / 100 * (1 + 1e-5)


def test_the_divisor_is_public_whatever_the_sample() -> None:
    # all gradients are clipped to 1 in one direction, so the noiseless step is the realised sample over the public one
    plan = Plan(records=100, rate=1.0, steps=1, clip=1e-6, noise_multiplier=0.1)
    one = rows(1)
    lengths = [(released(one.expand(n, -1), plan) - released(one[:0], plan)).norm() for n in (50, 100, 200)]
    np.testing.assert_allclose([float(length) * 1e6 for length in lengths], [0.5, 1.0, 2.0], rtol=0.05)


def test_noise_of_the_promised_size_is_in_every_weight() -> None:
    plan = Plan(records=10, rate=1.0, steps=1, clip=2.0, noise_multiplier=1.5)
    with kept(line(), squared, 2.0, rows(3)) as sums, Steps(sums, rows(0), plan, Noise(KEY)) as steps:
        found = torch.stack([steps.gradient().clone() for _ in range(500)]) * plan.batch
    assert found.std(dim=0).min() > 2.5
    assert float(found.std()) == pytest.approx(3.0, rel=0.02)


def test_progress_tells_no_loss_and_what_it_raises_ends_the_training() -> None:
    told: list[tuple[Any, ...]] = []
    train(line(), squared, rows(50), PLAN, Noise(KEY), lambda *what: told.append(what))
    assert told == [("private training", 20, 30, None), ("private training", 30, 30, None)]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(line(), squared, rows(50), PLAN, Noise(KEY), stop)


def test_a_key_repeats_a_training_and_nothing_else_does() -> None:
    def weights(key: bytes | None) -> Tensor:
        model = line()
        train(model, squared, rows(100), PLAN, Noise(key), silent)
        return model[0].weight.detach()

    assert torch.equal(weights(KEY), weights(KEY))
    assert not torch.equal(weights(None), weights(None))


@pytest.mark.parametrize("piece", [7, 1 << 15])
def test_one_core_and_two_release_the_same(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr("protocols.learning.noise._MOST", piece)
    monkeypatch.setattr("protocols.learning.dpsgd._PIECE", piece)
    both = []
    for cores in ({0}, {0, 1}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        both.append(released(rows(0), PLAN))
    assert torch.equal(*both)
    assert (both[0] != 0).all()  # no weight is left without noise


def test_calibration_spends_what_it_may_and_refuses_what_it_cannot() -> None:
    within = partial(Plan.within, records=1000, steps=100, clip=1.0, learning_rate=1e-3)
    for rate in (0.05, 1.0):
        assert 0.98 < Mechanism(event=within(1.0, 1e-5, rate=rate).event).epsilon(1e-5) <= 1.0
    with pytest.raises(ConfigError, match="no noise is enough"):
        within(1e-9, 1e-12, rate=1.0)
    with pytest.raises(ConfigError, match="its rate at most 1"):
        within(1.0, 1e-5, rate=7.0)


def test_no_thread_stays_behind() -> None:
    before = threading.active_count()
    train(line(), squared, rows(10), PLAN, Noise(), silent)
    assert threading.active_count() == before
