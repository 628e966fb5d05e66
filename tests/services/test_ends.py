"""When a run has ended, at a party or for everybody, nothing of it goes on, comes back or stays behind."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from services.audit import audit_records, audit_table
from services.keys import SealingKey, save_private
from services.runs import Run, RunKeys, UnknownRun
from services.seal import read_manifest
from silo_agent.desk import SiloDesk
from tests.echo import silo as echo_silo
from tests.world import HUB, World


@pytest.fixture
def run(world: World) -> str:
    """A run that everybody has joined and nobody has begun to work for."""
    run = world.submit()
    while {world.phases(run)[silo] for silo in world.silos} != {"joined"}:
        world.turn()
    return run


def test_what_was_purged_does_not_come_back_from_the_outbox(world: World) -> None:
    run = world.submit()
    north = world.parts["north"]
    while not north.state.rows("SELECT 1 FROM outbox WHERE kind='echo.greeting'"):
        world.turn()
    world.bus.down = True
    for _ in range(3):
        world.turn()
    assert any("/north/" in key for key in world.store.objects)
    world.silo("north").decline(run)
    with pytest.raises(UnknownRun, match="has yet to publish"):
        north.purge(run)
    world.bus.down = False
    world.parties["north"]._paces.clear()  # as if time had passed
    world.settle()
    north.purge(run)
    world.settle()
    assert not any("/north/" in key and key.endswith(".body") for key in world.store.objects)


def test_a_run_over_which_the_care_crashes_ends_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    consider = SiloDesk._consider

    def crash(desk: SiloDesk, run: Run) -> None:
        if run.run == bad:
            raise ValueError("what nobody thought of, with a value of 4711")
        consider(desk, run)

    monkeypatch.setattr(SiloDesk, "_consider", crash)
    bad, good = world.submit(), world.submit()
    with capture_logs() as log:
        world.settle()
    assert {world.run(silo, bad).phase for silo in world.silos} == {"failed"}
    assert {world.run(silo, good).phase for silo in world.silos} == {"done"}
    assert "ValueError" in world.run("north", bad).detail
    assert "4711" not in str(log) + world.run("north", bad).detail


def test_what_was_recorded_is_shown_letter_by_letter(world: World) -> None:
    records = [
        {
            "number": 1,
            "at": "2026-01-01T00:00:00",
            "event": "run ended",
            "run": "a",
            "detail": "column 'Puls [/min]': 3",
        }
    ]
    shown = Console(file=StringIO(), width=200)
    shown.print(audit_table(records))
    assert "column 'Puls [/min]': 3" in shown.file.getvalue()  # type: ignore[attr-defined]


def test_a_cancel_that_arrives_just_before_work_begins_stops_it(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = world.parties["north"]
    north.exchange()
    world.asleep = {"north"}
    world.settle()
    while world.run("north", run).phase != "running":
        north.exchange()
        north.host._reception.attend(north.desk)
        world.silo("north").tick()
    world.hub.cancel(run)
    world.settle()
    worked = []

    def greet(self: Any, progress: Any) -> None:
        north.exchange()  # the wire's thread goes on
        progress("greeting", 1, 100, None)
        worked.append(1)
        raise AssertionError("a cancelled run trained on")

    monkeypatch.setattr(echo_silo.Silo, "_greet", greet)
    real = north.host._reception.attend

    def overtaken(desk: Any) -> bool:
        done = real(desk)
        north.exchange()  # the cancel comes in between the two looks
        return done

    monkeypatch.setattr(north.host._reception, "attend", overtaken)
    north.host.work_once(north.desk)
    assert not worked


def test_what_a_silo_computed_before_it_declined_does_not_leave(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = world.parts["north"]
    greet = echo_silo.Silo._greet

    def declined_meanwhile(self: Any, progress: Any) -> Any:
        message = greet(self, progress)
        if self._context.me == "north":
            world.silo("north").decline(run)
        return message

    monkeypatch.setattr(echo_silo.Silo, "_greet", declined_meanwhile)
    world.settle()
    assert [row["kind"] for row in north.state.rows("SELECT kind FROM outbox ORDER BY sequence")] == [
        "run.join",
        "run.decline",
    ]


def test_what_was_sealed_before_a_decline_does_not_leave_after_it_and_the_decline_is_heard(
    world: World, run: str
) -> None:
    north = world.parts["north"]
    while not north.state.rows("SELECT 1 FROM outbox WHERE kind='echo.greeting'"):
        world.turn()
    world.silo("north").decline(run)
    world.settle()
    (greeting,) = north.state.rows("SELECT * FROM outbox WHERE kind='echo.greeting'")
    body = read_manifest(greeting["manifest"]).body_sha256
    assert not any(body in key for key in world.store.objects)
    assert world.run(HUB, run).detail == "north declined the run"
    assert world.parts[HUB].state.rows("SELECT 1 FROM inbox WHERE kind='echo.greeting' AND state='skipped'")
    assert world.quarantined(HUB) == []
    assert greeting["bytes"] == 0
    assert not list((north.state.folder / "outbox").iterdir())
    last = [record for record in audit_records(north.state.folder) if record["event"] == "withheld"]
    assert [(one["kind"], one["run"]) for one in last] == [("echo.greeting", run)]


def test_a_result_leaves_although_its_run_is_done(world: World, run: str) -> None:
    hub = world.parts[HUB]
    while not hub.state.rows("SELECT 1 FROM outbox WHERE kind='echo.chorus'"):
        world.turn()
    assert world.run(HUB, run).phase == "done"
    world.settle()
    assert set(world.phases(run).values()) == {"done"}


def test_a_half_that_cannot_be_made_ends_its_run_and_not_its_party(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, context: Any) -> None:
        raise ValueError("no")

    world.restart("north")
    monkeypatch.setattr(echo_silo.Silo, "__init__", broken)
    world.settle()
    assert world.run("north", run).phase == "failed"


def test_a_crashing_half_s_values_do_not_reach_the_log(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spill(self: Any, progress: Any) -> None:
        raise ValueError("could not convert 'Jane Roe'")

    world.restart("north")
    monkeypatch.setattr(echo_silo.Silo, "_greet", spill)
    with capture_logs() as logs:
        world.settle()
    crashes = [entry for entry in logs if entry["event"] == "the half crashed"]
    assert {entry["times"] for entry in crashes} == {1, 2, 3}
    assert "spill" in str(crashes)  # where it happened is told
    assert "Jane Roe" not in capsys.readouterr().err + str(crashes)
    assert not any(isinstance(entry.get("exc_info"), BaseException) for entry in crashes)


def test_a_half_written_run_key_does_not_outlive_the_next_start(tmp_path: Path) -> None:
    RunKeys(tmp_path / "run-keys")
    save_private(tmp_path / "run-keys" / ".tmp-0123", SealingKey.generate())
    RunKeys(tmp_path / "run-keys")
    assert not list((tmp_path / "run-keys").iterdir())


def test_what_a_crash_left_of_an_arrival_does_not_outlive_the_next_start(world: World) -> None:
    north = world.parts["north"]
    left = [north.state.folder / ".tmp-0123", north.state.folder / "late" / "gone.west.3",
            north.state.folder / "late" / "gone.west.4.part"]  # fmt: skip
    left[1].parent.mkdir()
    for path in left:
        path.write_text("other people's synthetic rows")
    world.restart("north")
    assert not [path for path in left if path.exists()]
