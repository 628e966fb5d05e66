"""A run that asks for noise: paid for before work, covered before it leaves, never the unprotected codes instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import protocols
from protocols.learning.evaluate.report import NoiseCurve
from protocols.learning.table import conform
from protocols.silofuse import report
from protocols.silofuse.claim import NoiseParameters, deviation
from protocols.silofuse.coordinator import Coordinator
from protocols.silofuse.messages import LATENTS, NOISED
from protocols.silofuse.noised import Encoder
from protocols.silofuse.silo import Silo
from protocols.spec import parse_spec
from services.artifact import Unprotected
from services.contract import Message, ProgressCallback
from services.errors import ConfigError
from services.ledger import Budget, Ledger
from services.mechanism import Mechanism
from silo_agent.policy import TABLE, TABLE_REASON
from silo_agent.request import request
from tests import tables
from tests.world import DATASET, HUB, World, permissive

NOISE = NoiseParameters(epsilon=2.0)
TRAINING = {"steps": 20, "batch": 32, "noise": {"epsilon": 2.0}}
NO_NOISE = {"steps": 20, "batch": 32}
SENTENCES = {
    kind: words for kind, words in {**protocols.sentences("silofuse"), TABLE: TABLE_REASON}.items() if kind != LATENTS
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # reports take seconds each and have their own tests
    monkeypatch.setattr("protocols.silofuse.report.available", lambda: False)
    world = World(tmp_path, protocol="silofuse", tables=tables.write_silos(tmp_path, rows=300))
    for silo in world.silos:
        world.policies[silo] = permissive("silofuse", unprotected=SENTENCES)
    yield world
    world.close()


def finish(world: World, **training: Any) -> str:
    run = world.hub.submit(tables.spec(training=training or TRAINING))
    world.settle()
    return run


def sent(world: World, party: str) -> list[str]:
    return [row["kind"] for row in world.parts[party].state.rows("SELECT kind FROM outbox ORDER BY run, sequence")]


def test_it_ends_with_results_and_the_ledger_says_what_was_done(world: World) -> None:
    run = finish(world)
    assert set(world.phases(run).values()) == {"done"}, {name: world.run(name, run).detail for name in world.parts}
    for silo in world.silos:
        assert sent(world, silo).count(NOISED) == 1
        assert LATENTS not in sent(world, silo)
        assert {"synthetic.parquet", "synthetic.csv"} <= {one.name for one in (world.outputs(silo) / run).iterdir()}
        ledger = Ledger(world.parts[silo].state)
        reserved, committed = ledger.entries()
        assert (reserved.event, committed.event) == ("reserved", "committed")
        assert reserved.charge == committed.charge
        assert reserved.charge.mechanism == NOISE.mechanism
        assert reserved.charge.mechanism.adjacency == "replace-one"
        assert reserved.charge.delta == NOISE.delta
        (account,) = ledger.accounts({DATASET: world.policies[silo].datasets[DATASET]})
        assert 1.9 < account.runs[0].epsilon <= 2.0
        ledger.verify()


def test_what_reaches_the_coordinator_is_covered_by_noise_of_the_agreed_size(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, np.ndarray] = {}
    join = Coordinator._join

    def listen(hub: Coordinator) -> Path:
        seen.update({silo: np.array(hub._read_latents(artifact)) for silo, artifact in hub._latents.items()})
        return join(hub)

    monkeypatch.setattr(Coordinator, "_join", listen)
    finish(world)
    spec = parse_spec(tables.spec())
    for silo, latents in seen.items():
        # at ε = 2 the noise is all that shows of the spread
        expected = deviation(NOISE.mechanism, spec.columns_of(silo))
        assert latents.std() == pytest.approx(expected, rel=0.1)
        assert latents.shape[1] == Encoder.draw(spec.columns_of(silo)).width


def test_a_restart_of_everybody_after_every_turn_pays_and_sends_once(world: World) -> None:
    run = world.hub.submit(tables.spec(training=TRAINING))
    for _ in range(40):
        world.turn()
        for name in list(world.parts):
            world.restart(name)
    world.settle()
    assert set(world.phases(run).values()) == {"done"}
    for silo in world.silos:
        assert sent(world, silo).count(NOISED) == 1
        assert len(Ledger(world.parts[silo].state).entries()) == 2


@pytest.mark.parametrize(
    ("datasets", "why"),
    [
        ({}, "not registered"),
        ({DATASET: Budget(epsilon_per_run=1.0, epsilon_for_life=9.0, delta=1e-5)}, "would cost"),
        ({DATASET: Budget(epsilon_per_run=3.0, epsilon_for_life=9.0, delta=1e-7)}, "asks for δ"),
    ],
)
def test_without_the_policy_s_budget_it_is_declined_before_any_work(
    world: World, datasets: dict[str, Budget], why: str
) -> None:
    world.policies["north"] = permissive("silofuse", datasets=datasets)
    run = finish(world)
    assert world.run("north", run).phase == "declined"
    assert why in world.run("north", run).detail
    assert sent(world, "north") == ["run.decline"]
    assert Ledger(world.parts["north"].state).entries() == []


def test_a_policy_that_lets_no_unprotected_codes_leave_declines_a_run_without_noise(world: World) -> None:
    run = finish(world, **NO_NOISE)
    assert "silofuse.latents" in world.run("north", run).detail
    assert world.run("north", run).phase == "declined"


def test_a_half_that_sends_unprotected_codes_in_a_noised_run_is_stopped_in_the_silo(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.policies["south"] = permissive("silofuse")  # this policy would let them leave in another run

    def mistake(silo: Silo, progress: ProgressCallback) -> Message:
        assert silo._noise is not None
        monkeypatch.setattr(silo, "_noise", None)
        return silo._encode(progress)

    release = Silo._release
    monkeypatch.setattr(
        Silo, "_release", lambda half, progress: (mistake if half._context.me == "south" else release)(half, progress)
    )
    run = finish(world)
    assert LATENTS not in sent(world, "south")
    assert NOISED not in sent(world, "south")
    assert world.run("south", run).phase == "failed"


@pytest.mark.parametrize("noised", [True, False])
def test_the_coordinator_takes_only_the_kind_that_the_run_agreed_on(
    world: World, monkeypatch: pytest.MonkeyPatch, noised: bool
) -> None:
    for silo in world.silos:
        world.policies[silo] = permissive("silofuse")
    world.parts["south"].courier.outgoing._guard = lambda *_: "none"  # a silo without a policy
    name, other = ("_release", LATENTS) if noised else ("_encode", NOISED)
    make = getattr(Silo, name)

    def relabelled(silo: Silo, progress: ProgressCallback) -> Message:
        message: Message = make(silo, progress)
        return Message(other, message.payload, message.release) if silo._context.me == "south" else message

    monkeypatch.setattr(Silo, name, relabelled)
    run = finish(world, **(TRAINING if noised else NO_NOISE))
    assert len(world.quarantined(HUB)) == 1
    assert world.run(HUB, run).phase == "running"
    assert not any((world.outputs(silo) / run).exists() for silo in world.silos)


def test_what_contradicts_itself_is_refused_with_the_reason(world: World) -> None:
    for wrong, words in (
        ({"noise": {"epsilon": 2.0}, "form": "layout"}, "opaque"),
        ({"noise": {"epsilon": 2.0}, "form": "paper"}, "opaque"),
        ({"noise": {"delta": 1e-5}}, "epsilon"),
        ({"noise": {"epsilon": 2.0, "skewed": ["sex"]}}, "sex"),
    ):
        with pytest.raises(ConfigError, match=words):
            protocols.check_spec(tables.spec(training=wrong), "the specification")


def test_the_approver_reads_what_it_spends_and_that_no_unprotected_codes_leave(world: World) -> None:
    world.policies["north"] = permissive("silofuse", approval="manual")
    facts = request(world.run("north", finish(world)), "north", DATASET)
    assert set(facts["unprotected"]) == {"align.pseudonyms"}
    assert facts["spends"]["epsilon"] == pytest.approx(2.0, rel=0.01)


def test_the_report_s_curve_carries_the_run_s_own_claim_and_that_of_all_silos() -> None:
    columns = parse_spec(tables.spec()).columns_of("north")
    people = conform(tables.people(700), columns)
    made = {
        epsilon: NoiseCurve.model_validate(
            report._curve(
                parse_spec(tables.spec(training={"noise": {"epsilon": epsilon}} if epsilon else {})), people, columns
            )
        )
        for epsilon in (2.5, None)
    }
    claimed = made[2.5]
    assert claimed.claimed == 2.5
    assert 2.5 in [point.epsilon for point in claimed.points]
    multiplier = NoiseParameters(epsilon=2.5).mechanism.event.noise_multiplier  # type: ignore[union-attr]
    together = Mechanism.model_validate({"event": {"event": "gaussian", "noise_multiplier": multiplier / 3**0.5}})
    assert claimed.together == pytest.approx(together.epsilon(1e-5), rel=1e-3)
    assert made[None].claimed is None
    assert made[None].together is None
    assert [point.epsilon for point in made[None].points] == [None, *report.LEVELS]


def test_an_unprotected_sentence_is_no_release_of_noised_rows() -> None:
    with pytest.raises(Exception, match="declared as 'spend'"):
        permissive("silofuse").check_message(
            Message(NOISED, b"", Unprotected(reason="anything")), (HUB,), parse_spec(tables.spec(training=TRAINING))
        )
