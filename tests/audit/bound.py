"""From how well two neighbouring data sets are told apart to the least ε that explains it.

No test tells apart what a mechanism makes of two neighbours by more than its δ at ε = 0: true positives minus false
ones stay below it. The audit finds the promised event with so much more or less noise that this is just what was
seen, and tells that event's ε. For Gaussians it is the bound of Nasr et al. (USENIX Security 2023), section 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from dp_accounting import get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from numpy.typing import NDArray
from scipy.stats import beta, norm

from services.mechanism import Event, Gaussian, Mechanism, Repeated, Sampled, _as_one_gaussian, _dp_event

DELTA = 1e-5
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """A claim, and what an attack on it proved.

    Attributes:
        claimed: ε at DELTA.
        found: ε is at least this, at the confidence that was asked for.
    """

    claimed: float
    found: float

    @property
    def refuted(self) -> bool:
        return self.found > self.claimed


def audited(absent: Scores, present: Scores, claim: Event, confidence: float) -> Finding:
    """Judge scores [n] of releases without and with one record against a claim.

    The threshold is chosen on one half and judged on the other, so that choosing it costs no confidence.
    """
    half_absent, half_present = len(absent) // 2, len(present) // 2
    threshold, sign = _best(absent[:half_absent], present[:half_present])
    wrong = sign * (absent[half_absent:] - threshold) > 0
    right = sign * (present[half_present:] - threshold) > 0
    each = (1 - confidence) / 2
    least_right = _clopper_pearson(int(right.sum()), len(right), each)[0]
    most_wrong = _clopper_pearson(int(wrong.sum()), len(wrong), each)[1]
    return Finding(Mechanism(event=claim).epsilon(DELTA), explained(least_right - most_wrong, claim))


def _best(absent: Scores, present: Scores) -> tuple[float, int]:
    """The threshold and direction that tell two sets of scores apart best."""
    values = np.unique(np.concatenate([absent, present]))
    above = [1 - np.searchsorted(np.sort(scores), values, side="right") / len(scores) for scores in (absent, present)]
    advantage = above[1] - above[0]
    place = int(np.abs(advantage).argmax())
    between = (values[place] + values[min(place + 1, len(values) - 1)]) / 2
    return float(between), 1 if advantage[place] >= 0 else -1


def _clopper_pearson(hits: int, trials: int, miss: float) -> tuple[float, float]:
    """Bounds on a probability, each missed with at most this probability."""
    least = float(beta.ppf(miss, hits, trials - hits + 1)) if hits else 0.0
    most = float(beta.isf(miss, hits + 1, trials - hits)) if hits < trials else 1.0
    return least, most


def explained(advantage: float, claim: Event) -> float:
    """The ε of the claim's event with just so much noise that its advantage is this."""
    if advantage <= 0:
        return 0.0
    if _as_one_gaussian(claim) is not None:
        return float(get_epsilon_gaussian(1 / (2 * norm.ppf((1 + min(advantage, 1 - 1e-12)) / 2)), DELTA))
    assert isinstance(claim, Repeated)
    low, high = max(0.1, claim.of.noise_multiplier / 8), claim.of.noise_multiplier * 32
    for _ in range(9):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _advantage(_with_noise(claim, middle)) > advantage else (low, middle)
    return Mechanism(event=_with_noise(claim, high)).epsilon(DELTA)


def _advantage(event: Event) -> float:
    # a hundred times coarser than where ε is told: at ε = 0 that costs 1e-5
    return float(PLDAccountant(value_discretization_interval=1e-2).compose(_dp_event(event)).get_delta(0.0))


def _with_noise(event: Event, multiplier: float) -> Event:
    assert isinstance(event, Repeated)
    one: Gaussian | Sampled = event.of.model_copy(update={"noise_multiplier": multiplier})
    return Repeated(count=event.count, of=one)
