"""A coordinator that lies and a member that sends poison: a silo loses neither its secrets nor its service."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from structlog.testing import capture_logs

from services.board import runs_table
from services.contract import Received
from services.errors import ConfigError, InvalidArtifact
from services.runs import Offer, say
from silo_agent.policy import TABLE, Policy
from silo_agent.product import keep_table
from tests.world import HUB, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def offer(world: World, **changes: Any) -> str:
    """Write a run down as a coordinator would that checks nothing."""
    from json import dumps

    deadline = changes.pop("until", world.now + timedelta(hours=1))
    text = dumps({**world.spec(), "deadline": "3600s", "training": {}, **changes})
    world.parts[HUB].book.open("trial-crooked", text, HUB, world.now, min(deadline, world.now + timedelta(hours=1)))
    key = world.parts[HUB].keys.make("trial-crooked")
    world.parts[HUB].courier.send(
        "trial-crooked", "offer", say("run.offer", Offer(spec=text, deadline=deadline, run_key=key)),
        {name: world.rings[name].public.seal for name in world.silos},
        expires=world.now + timedelta(hours=1), schema_hash=world.run(HUB, "trial-crooked").spec_hash,
    )  # fmt: skip
    return "trial-crooked"


CROOKED: dict[str, dict[str, Any]] = {
    "the coordinator is a silo too": {"silos": {HUB: {}, "north": {}, "south": {}}},
    "it ends with the calendar": {"until": datetime(9999, 12, 31, 23, tzinfo=UTC)},
    "its duration overflows": {"deadline": "99999999999999d"},
    "a step underflows": {
        "silos": {"north": {"columns": {"x": {"type": "number", "min": 0, "max": 1e300, "step": 1e-300}}}, "south": {}}
    },
}


@pytest.mark.parametrize("changes", CROOKED.values(), ids=CROOKED)
def test_a_crooked_offer_is_refused_and_the_silo_goes_on(world: World, changes: dict[str, Any]) -> None:
    run = offer(world, **changes)
    world.asleep = {HUB}
    world.parties[HUB].exchange()
    world.settle()
    assert world.phases(run)["north"] == "unknown"
    assert len(world.quarantined("north")) == 1


def test_the_coordinator_is_never_a_silo_of_its_own_run(world: World) -> None:
    with pytest.raises(ConfigError, match="cannot be one of the silos"):
        world.submit(silos={HUB: {}, "north": {}})


@pytest.mark.parametrize("deadline", ["0s", "400d"])
def test_a_deadline_that_cannot_work_is_said_at_once(world: World, deadline: str) -> None:
    with pytest.raises(ConfigError, match="deadline"):
        world.submit(deadline=deadline)


def test_a_policy_that_is_being_edited_declines_nothing_and_fills_no_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn() -> Policy:
        raise ConfigError("policy.yaml is not valid YAML")

    desk = world.silo("north")
    policy = desk._policy
    monkeypatch.setattr(desk, "_policy", torn)
    run = world.submit()
    world.settle()
    assert world.run("north", run).phase == "offered"
    assert "policy.yaml" in world.run("north", run).detail
    monkeypatch.setattr(desk, "_policy", policy)
    world.settle()
    assert set(world.phases(run).values()) == {"done"}


def test_what_holds_one_run_up_is_said_once_and_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = world.submit()
    parts = world.parts["north"]
    guard = parts.courier.outgoing._guard

    def broken(run: str, *rest: Any) -> str:
        if run == bad:
            raise ConfigError("policy.yaml is not valid YAML")
        return guard(run, *rest)

    monkeypatch.setattr(parts.courier.outgoing, "_guard", broken)
    with capture_logs() as logs:
        world.settle()
        for _ in range(10):
            world.turn()
    assert len([entry for entry in logs if entry["event"] == "waits"]) == 1
    good = world.submit()
    world.settle()
    assert world.phases(good)["north"] == "done"


POISON = {
    "a description that is no object": (pa.table({"x": [1.0, 2.0]}), {b"pandas": b"[]"}),
    "more rows than declared": (pa.table({"x": [1.0] * 1000}), {}),
    "other columns than declared": (pa.table({"y": [1.0, 2.0]}), {}),
    "columns of lists": (pa.table({"x": [[1.0], [2.0]]}), {}),
}


@pytest.mark.parametrize("case", POISON)
def test_a_released_table_that_is_poison_is_refused(world: World, tmp_path: Path, case: str) -> None:
    columns = {"x": {"type": "number", "min": 0, "max": 10}}
    run = world.run(HUB, world.submit(silos={"north": {"columns": columns}, "south": {}}, rows=2))
    table, metadata = POISON[case]
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "poison")
    with pytest.raises(InvalidArtifact, match="do not fit"):
        keep_table(Received("north", TABLE, tmp_path / "poison", "0" * 64), run, tmp_path / "kept")
    assert not list((tmp_path / "kept" / "received").iterdir())


def test_the_coordinator_s_words_are_neither_markup_nor_commands_to_a_terminal(world: World) -> None:
    run = world.submit()
    world.parts[HUB].book.move(run, "failed", world.now, "[/]no[/red] \x1b[2J\x1b]0;gone\x07")
    console = Console(record=True, width=200)
    console.print(runs_table(world.parts[HUB].book.all()))
    shown = console.export_text()
    assert "[/]no[/red]" in shown
    assert "\x1b" not in shown
