"""What every protocol promises, whatever it computes: one file of scenarios, played for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.artifact import NoData
from services.contract import Message
from services.errors import DataError
from services.trust import sealing_keys
from silo_agent.policy import Policy
from tests import tables
from tests.world import HUB, World

TINY = {"steps": 20, "batch": 32}


@dataclass
class Case:
    """A protocol in its smallest form."""

    make: Callable[[Path], World]
    spec: Callable[[World], dict[str, Any]]
    outputs: frozenset[str]
    secret: bytes
    """Words of private data that must never be readable in the store."""
    refusal: str = "unprotected"
    """What a policy that allows the protocol and nothing else misses."""


def _echo(folder: Path) -> World:
    return World(folder)


def _silofuse(folder: Path) -> World:
    return World(folder, protocol="silofuse", tables=tables.write_silos(folder))


def _sgde(folder: Path) -> World:
    return World(folder, protocol="sgde", tables=tables.write_shared(folder))


CASES = {
    "echo": Case(_echo, lambda world: world.spec(), frozenset({"chorus.txt"}), b"hello from"),
    "silofuse": Case(
        _silofuse, lambda _: tables.spec(training=TINY), frozenset({"synthetic.parquet", "synthetic.csv"}), b"P-000"
    ),
    "sgde": Case(
        _sgde, lambda _: tables.shared_spec(), frozenset({"generator.safetensors", "synthetic.csv"}), b"P-000",
        "not registered",
    ),
}  # fmt: skip


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def world(case: Case, tmp_path: Path) -> Iterator[World]:
    world = case.make(tmp_path)
    yield world
    world.close()


@pytest.fixture(autouse=True)
def _without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes seconds and is tested by itself."""
    monkeypatch.setattr("protocols.silofuse.report.available", lambda: False)


def everywhere(world: World, phase: str) -> dict[str, str]:
    return dict.fromkeys((HUB, *world.silos), phase)


def sent(world: World) -> dict[str, list[str]]:
    return {
        name: [row["kind"] for row in parts.state.rows("SELECT kind FROM outbox ORDER BY run, sequence")]
        for name, parts in world.parts.items()
    }


def check_done(world: World, case: Case, run: str) -> None:
    assert world.phases(run) == everywhere(world, "done"), {n: world.run(n, run).detail for n in world.parts}
    for silo in world.silos:
        assert case.outputs <= {path.name for path in (world.outputs(silo) / run).iterdir()}


def test_a_run_ends_with_results_at_every_silo(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    world.settle()
    check_done(world, case, run)
    assert all(world.quarantined(name) == [] for name in world.parts)


def test_neither_store_nor_bus_can_read_what_travels(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    world.settle()
    check_done(world, case, run)
    assert len(world.store.objects) > 10
    assert not any(case.secret in content for content in world.store.objects.values())


def test_plaintext_goes_with_the_run_and_keys_after_their_grace(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    world.settle()
    world.pass_time(2 * 3600)
    world.settle()
    for name in world.parts:
        assert not (world.folder / name / "state" / "runs" / run).exists()
        assert world.parts[name].keys.find(run) is None


def test_a_restart_of_everybody_after_every_turn_changes_nothing(world: World, case: Case, tmp_path: Path) -> None:
    run = world.hub.submit(case.spec(world))
    for _ in range(40):
        world.turn()
        for name in list(world.parts):
            world.restart(name)
    world.settle()
    check_done(world, case, run)

    calm = case.make(tmp_path / "calm") if (tmp_path / "calm").mkdir() is None else None
    assert calm is not None
    calm.hub.submit(case.spec(calm))
    calm.settle()
    assert sent(world) == sent(calm)  # nothing was sealed twice, nothing left out
    calm.close()


@pytest.mark.parametrize("fault", ["lost", "repeated and shuffled", "both"])
def test_notices_are_only_hints(world: World, case: Case, fault: str) -> None:
    world.bus.lose = 0.0 if fault == "repeated and shuffled" else 0.7
    world.bus.copies = 1 if fault == "lost" else 10
    world.bus.shuffle = fault != "lost"
    run = world.hub.submit(case.spec(world))
    world.settle()
    check_done(world, case, run)


def test_a_silo_that_never_answers_is_named_at_the_deadline(world: World, case: Case) -> None:
    world.asleep = {"west"}
    run = world.hub.submit(case.spec(world))
    world.settle()
    assert "west" in world.run(HUB, run).awaited()
    world.pass_time(3601)
    world.settle()
    world.asleep = set()
    world.settle()
    assert world.phases(run) == everywhere(world, "failed")
    assert "west" in world.run(HUB, run).detail
    assert not (world.outputs("north") / run).exists()


def test_a_silo_that_falls_silent_in_the_middle_is_named_too(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    while world.phases(run)["south"] != "joined" or not world.bus.queues["north"]:
        world.turn()
    world.asleep = {"south"}
    world.settle()
    assert world.run(HUB, run).phase == "running"
    world.pass_time(3601)
    world.settle()
    assert world.run(HUB, run).phase == "failed"
    assert "south" in world.run(HUB, run).detail
    world.asleep = set()
    world.settle()
    assert world.phases(run) == everywhere(world, "failed")


def test_what_the_policy_does_not_allow_is_declined_before_any_work(world: World, case: Case) -> None:
    world.policies["north"] = Policy(protocols=(world.protocol,))
    run = world.hub.submit(case.spec(world))
    world.settle()
    assert world.run("north", run).phase == "declined"
    assert case.refusal in world.run("north", run).detail
    assert world.run(HUB, run).phase == "failed"
    assert sent(world)["north"] == ["run.decline"]
    assert case.refusal not in world.run(HUB, run).detail  # reasons stay in the house


def test_a_run_waits_for_the_person_whose_approval_the_policy_wants(world: World, case: Case) -> None:
    world.policies["south"] = world.policies["south"].model_copy(update={"approval": "manual"})
    run = world.hub.submit(case.spec(world))
    world.settle()
    assert world.run("south", run).phase == "offered"
    assert "approve" in world.run("south", run).detail
    world.silo("south").approve(run, "ada")
    world.settle()
    check_done(world, case, run)


def test_a_second_run_waits_for_the_first(world: World, case: Case) -> None:
    first, second = world.hub.submit(case.spec(world)), world.hub.submit(case.spec(world))
    seen = set()
    for _ in range(300):
        world.turn()
        seen |= {(world.phases(first)[name], world.phases(second)[name]) for name in world.parts}
    world.settle()
    check_done(world, case, first)
    check_done(world, case, second)
    assert ("running", "running") not in seen
    assert any("queued" in phases for phases in seen)


@pytest.mark.parametrize("moment", ["before the joins", "in the middle"])
def test_a_cancelled_run_ends_everywhere(world: World, case: Case, moment: str) -> None:
    run = world.hub.submit(case.spec(world))
    awaited = "running" if moment == "in the middle" else "offered"
    while world.phases(run) != everywhere(world, awaited):
        world.turn()
    world.hub.cancel(run)
    world.settle()
    assert world.phases(run) == everywhere(world, "cancelled")


def test_a_run_that_is_cancelled_before_its_offer_left_bothers_nobody(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    world.hub.cancel(run)
    world.settle()
    assert world.phases(run) == {**everywhere(world, "unknown"), HUB: "cancelled"}
    assert not any(run in key for key in world.store.objects)


def test_a_silo_can_leave(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    while world.phases(run) != everywhere(world, "running"):
        world.turn()
    world.silo("north").decline(run)
    world.settle()
    assert world.run("north", run).phase == "declined"
    assert world.run(HUB, run).phase == world.run("west", run).phase == "failed"


def test_an_artifact_that_the_protocol_does_not_know_is_set_aside_and_the_run_goes_on(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    while world.phases(run) != everywhere(world, "running"):
        world.turn()
    north = world.parts["north"]
    north.courier.outgoing._guard = lambda *_: "none"  # an honest silo's own policy would not let it leave
    north.courier.send(
        run, "mischief", Message("who.knows", b"?", NoData()), sealing_keys(north.trust, (HUB,)),
        expires=world.run("north", run).deadline, schema_hash=world.run("north", run).spec_hash,
    )  # fmt: skip
    world.settle()
    check_done(world, case, run)
    assert len(world.quarantined(HUB)) == 1


def test_data_that_contradicts_the_schema_ends_the_run_without_telling_why_outside(world: World, case: Case) -> None:
    def bad(name: str, run: object) -> None:
        if name == "north":
            raise DataError("column 'age': 3 of 9 values lie outside the bounds")

    world.check_data = bad  # type: ignore[method-assign]
    run = world.hub.submit(case.spec(world))
    with capture_logs() as log:
        world.settle()
    assert "3 of 9" in world.run("north", run).detail
    told = [{key for key, value in line.items() if "3 of 9" in str(value)} for line in log]
    assert set().union(*told) <= {"detail"}, "which no support bundle has"
    assert all("3 of 9" not in world.run(name, run).detail for name in (HUB, "south", "west"))


def test_purging_an_ended_run_takes_its_objects_and_keys(world: World, case: Case) -> None:
    run = world.hub.submit(case.spec(world))
    world.settle()
    for name in world.parts:
        world.parts[name].purge(run)
        assert world.parts[name].keys.find(run) is None
    left = [key for key in world.store.objects if run in key]
    assert all(key.endswith(".manifest") for key in left), "what holds data is gone"
    assert len(left) == len(world.parts), "the last manifest shows how far each had come"
    for name in list(world.parts):
        world.restart(name)  # what was purged is not missed
    world.settle()
    check_done(world, case, run)
