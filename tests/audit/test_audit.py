"""The audit refutes no true claim, comes near the claim where an attack is best, and catches every planted mistake.

A true claim is refuted by chance with a probability of 1e-6 for each game: noise is fresh in every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from protocols.learning.clipped import Loss, kept
from protocols.learning.dpsgd import Plan, train
from protocols.learning.noise import Noise
from protocols.sgde.families import vae
from protocols.sgde.parameters import SgdeParameters
from services.errors import ConfigError
from services.mechanism import Event, Gaussian, Mechanism, Repeated, Sampled
from tests.audit.bound import DELTA, _advantage, audited, explained
from tests.audit.families import COLUMNS, EDGE, FAMILY_GAMES, FamilyGame, table
from tests.audit.games import GAMES, Game, first, many_canaries
from tests.audit.planted import PLANTED, Planted
from tests.audit.rows import PLANTED_ROWS, ROWS, RowGame

pytestmark = pytest.mark.slow
SURE = 1 - 1e-6


def test_one_step_is_attacked_as_well_as_can_be() -> None:
    finding = many_canaries(40_000, SURE)
    assert 0.7 * finding.claimed <= finding.found <= finding.claimed


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.title)
def test_no_true_claim_is_refuted(game: Game) -> None:
    assert not game.play(500, SURE).refuted


@pytest.mark.parametrize("game", FAMILY_GAMES, ids=lambda game: game.title)
def test_no_true_claim_of_a_family_is_refuted(game: FamilyGame) -> None:
    assert not game.play(500, SURE).refuted


def test_no_true_claim_about_a_row_is_refuted_and_the_attack_comes_near_it() -> None:
    finding = ROWS.play(4000, SURE)
    assert 0.5 * finding.claimed <= finding.found <= finding.claimed


def test_a_vae_is_private_training_of_each_class_on_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, Event]] = []

    def spy(model: nn.Module, loss: Loss, data: Tensor, plan: Plan, *rest: Any) -> Event:
        trained.append((len(data), plan.event))
        return train(model, loss, data, plan, *rest)

    monkeypatch.setattr(vae, "train", spy)
    parameters = SgdeParameters(label="label", family="vae", epsilon=4.0, records=8)
    rows = table([EDGE] * 5 + [EDGE | {"label": "no"}] * 2)
    _, executed = vae.Vae().fit(rows, COLUMNS, parameters, Noise(), lambda *_: None)
    claim = vae.Vae().mechanism(COLUMNS, parameters)
    assert claim.partition == "label"
    assert executed == claim.event
    assert trained == [(2, claim.event), (5, claim.event)]


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.title)
def test_every_planted_mistake_is_caught(bug: Planted) -> None:
    assert bug.game.play(bug.trials, SURE, bug.steps, bug.clip).refuted


@pytest.mark.parametrize("bug", PLANTED_ROWS, ids=lambda bug: bug.title)
def test_every_mistake_planted_into_the_upload_of_rows_is_caught(bug: RowGame) -> None:
    assert bug.play(bug.trials, SURE).refuted


def test_batch_norm_is_caught_before_there_is_anything_to_audit() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    with pytest.raises(ConfigError, match="BatchNorm1d"), kept(model, first, 1.0, torch.rand(3, 1)):
        pass


def test_the_advantage_of_an_event_is_explained_by_its_own_epsilon() -> None:
    gaussian = Repeated(count=4, of=Gaussian(noise_multiplier=3.0))
    sampled = Repeated(count=4, of=Sampled(rate=0.3, noise_multiplier=1.0))
    for event in (gaussian, sampled):
        assert explained(_advantage(event), event) == pytest.approx(Mechanism(event=event).epsilon(DELTA), rel=0.05)


def test_chance_proves_nothing() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 2000))
    assert audited(scores[0], scores[1], Gaussian(noise_multiplier=1.0), 0.99).found == 0
