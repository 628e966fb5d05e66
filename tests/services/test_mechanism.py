"""ε is computed from what was executed: known values, compositions that agree, and claims that are refused unread."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from services.mechanism import Composed, Event, Gaussian, Mechanism, Repeated, Sampled, calibrated, composed

DELTA = 1e-5
SAMPLED = {"event": "poisson-sampled-gaussian", "rate": 0.1, "noise_multiplier": 1}


def epsilon(event: Event) -> float:
    return Mechanism(event=event).epsilon(DELTA)


def repeated(count: int, rate: float, scale: float) -> Event:
    return Repeated(count=count, of=Sampled(rate=rate, noise_multiplier=scale))


def test_the_epsilon_of_one_gaussian_is_the_published_one() -> None:
    # Balle and Wang, theorem 8, solved independently: Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ) = δ at σ = 2
    from scipy.optimize import brentq
    from scipy.stats import norm

    def delta(eps: float) -> float:
        return float(norm.cdf(0.25 - 2 * eps) - 2.718281828459045**eps * norm.cdf(-0.25 - 2 * eps))

    assert epsilon(Gaussian(noise_multiplier=2)) == pytest.approx(brentq(lambda e: delta(e) - DELTA, 0.1, 9), rel=1e-6)


def test_gaussians_compose_to_one_gaussian() -> None:
    whole = epsilon(Gaussian(noise_multiplier=2))
    assert epsilon(Repeated(count=9, of=Gaussian(noise_multiplier=6))) == pytest.approx(whole)
    parts = (Gaussian(noise_multiplier=2.5), Repeated(count=4, of=Gaussian(noise_multiplier=20 / 3)))
    assert epsilon(Composed(of=parts)) == pytest.approx(whole)


def test_mechanisms_over_the_same_people_are_told_as_one() -> None:
    one, other = repeated(100, 0.05, 1.0), Gaussian(noise_multiplier=4)
    parts = [one, Composed(of=(other, one)), Repeated(count=3, of=other)]
    whole = composed([Mechanism(event=part, partition="label") for part in parts])
    assert whole == Mechanism(event=Composed(of=(repeated(200, 0.05, 1.0), Gaussian(noise_multiplier=2))))
    assert composed([Mechanism(event=one)]) == Mechanism(event=one)
    with pytest.raises(ValueError, match="sampled"):
        composed([Mechanism(event=repeated(2, rate, 1.0)) for rate in (0.1, 0.2, 0.3)])
    with pytest.raises(ValueError, match="at least 1 item"):
        composed([])


def test_replaced_records_add_up_among_themselves_and_with_others_to_what_blank_records_would_tell() -> None:
    one = Mechanism(adjacency="replace-one", event=Gaussian(noise_multiplier=4))
    assert composed([one] * 4) == Mechanism(adjacency="replace-one", event=Gaussian(noise_multiplier=2))
    mixed = composed([one, one, Mechanism(event=one.event), Mechanism(event=one.event)])
    assert mixed.adjacency == "add-or-remove-one"
    assert mixed.epsilon(DELTA) == pytest.approx(epsilon(Gaussian(noise_multiplier=2)))


def test_a_ceiling_is_judged_as_the_exact_value_says() -> None:
    mechanism = Mechanism(event=repeated(100, 0.05, 1.0))
    exact = mechanism.epsilon(DELTA)
    assert mechanism.within(exact, DELTA)
    assert not mechanism.within(exact * 0.999, DELTA)
    assert not mechanism.within(float("nan"), DELTA)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mechanism.within(1.0, float("nan"))


def test_sampling_helps_and_renyi_bounds_the_exact_value() -> None:
    sampled = epsilon(repeated(100, 0.05, 1.0))
    assert sampled < epsilon(Repeated(count=100, of=Gaussian(noise_multiplier=1.0)))
    mechanism = Mechanism(event=repeated(100, 0.05, 1.0))
    import math

    bounds = [mechanism.rdp(a) + math.log1p(-1 / a) - math.log(DELTA * a) / (a - 1) for a in range(2, 60)]
    assert sampled <= min(bounds)


@pytest.mark.parametrize("of", [partial(repeated, 100, 0.1), lambda s: Gaussian(noise_multiplier=s)])
def test_calibration_keeps_within_the_ceiling_and_wastes_little(of: Any) -> None:
    event = calibrated(of, 1.5, DELTA)
    assert 1.48 < epsilon(event) <= 1.5


@pytest.mark.parametrize(
    "claim",
    [
        {},
        {"event": {"event": "laplace", "noise_multiplier": 1}},
        {"event": {"event": "gaussian", "noise_multiplier": 0}},
        {"event": {"event": "gaussian", "noise_multiplier": float("nan")}},
        {"event": {"event": "gaussian", "noise_multiplier": 1}, "epsilon": 0.1},
        {"event": {"event": "gaussian", "noise_multiplier": 1}, "adjacency": "none"},
        {"event": SAMPLED, "adjacency": "replace-one"},
        {"event": {"event": "gaussian", "noise_multiplier": 1}, "adjacency": "replace-one", "partition": "label"},
        {"event": {"event": "poisson-sampled-gaussian", "rate": 1.5, "noise_multiplier": 1}},
        {"event": {"event": "repeated", "count": 10**9, "of": {"event": "gaussian", "noise_multiplier": 1}}},
        {"event": {"event": "repeated", "count": 2, "of": {"event": "composed", "of": []}}},
        {"event": {"event": "composed", "of": [{"event": "gaussian", "noise_multiplier": 1}] * 17}},
        {"event": {"event": "composed", "of": [SAMPLED] * 3}},
    ],
)
def test_a_claim_outside_the_allow_list_is_no_mechanism(claim: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mechanism.model_validate(claim)


def test_the_most_expensive_claim_costs_little_time() -> None:
    epsilon(repeated(2, 0.5, 1.0))  # what is loaded once is not the claim's
    parts = tuple(Repeated(count=10**6 - k, of=Sampled(rate=0.001 + k / 9, noise_multiplier=60 + k)) for k in range(2))
    began = time.process_time()
    epsilon(Composed(of=(*parts, *[Gaussian(noise_multiplier=100.0 + k) for k in range(14)])))
    epsilon(repeated(10**6, 0.9, 0.1))
    assert time.process_time() - began < 30
