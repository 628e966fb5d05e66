"""Whoever writes to store, bus or run as a stranger or a traitor: it costs a party a line of log, never its service."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.artifact import NoData
from services.bus import Notice
from services.contract import Message, ProgressCallback, Received
from services.errors import StoreError
from services.party import Party
from services.runs import CANCEL, FAILED, JOIN, Ending, Join, say
from services.seal import read_manifest
from services.state import State
from services.store import ObjectAbsent
from services.store.folder import FolderStore
from silo_agent.desk import SiloDesk
from tests.echo import coordinator, silo
from tests.services.test_courier import finish, forge
from tests.world import FEDERATION, HUB, World


@pytest.mark.parametrize("sender", ["-north", "north-", "n" * 200])
def test_a_notice_of_a_name_that_cannot_be_wedges_nobody(world: World, run: str, sender: str) -> None:
    for name in world.parts:
        world.bus.send(name, Notice(f"{FEDERATION}/{sender}/{run}/{'0' * 64}.manifest"))
    finish(world, run)
    assert world.quarantined(HUB) == []


def count(world: World, table: str) -> int:
    return len(world.parts[HUB].state.rows(f"SELECT 1 FROM {table}"))


def test_names_that_are_no_member_s_manifest_leave_no_row_and_few_lines_of_log(world: World, run: str) -> None:
    world.settle()
    before = count(world, "arrivals"), count(world, "chains")
    with capture_logs() as logs:
        for number in range(100):
            for name in (f"litter-{number}", f"{FEDERATION}/mallory/{run}/{number:064x}.manifest"):
                world.bus.send(HUB, Notice(name))
                world.store.objects[name] = b"litter"
        finish(world, run)
    assert (count(world, "arrivals"), count(world, "chains")) == before
    assert world.quarantined(HUB) == []
    assert 0 < len([entry for entry in logs if "dropped" in entry["event"]]) < 50


def test_what_nobody_signed_is_set_aside_without_a_word_in_the_audit_log(world: World, run: str) -> None:
    world.settle()
    signed = next(key for key in world.store.objects if f"/north/{run}/" in key and key.endswith(".manifest"))
    before = count(world, "chains")
    for number in range(50):
        world.store.objects[f"{FEDERATION}/north/{run}/{number:064x}.manifest"] = b"litter"
    world.store.objects[signed.replace(run, "elsewhere")] = world.store.objects[signed]
    finish(world, run)
    assert count(world, "chains") == before
    assert count(world, "quarantine") == 51
    known = count(world, "arrivals")
    for key in [key for key, value in world.store.objects.items() if value == b"litter"]:
        del world.store.objects[key]
    world.settle()
    assert count(world, "arrivals") == known - 50  # what the store has no longer is forgotten


def test_a_flood_of_names_of_one_sender_waits_outside_and_holds_no_other_up(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.courier.incoming._WAITING", 20)
    hub = world.parts[HUB].courier.incoming
    for number in range(100):
        hub._note(f"{FEDERATION}/north/{run}/{number:064x}.manifest")
    assert len(world.parts[HUB].state.rows("SELECT 1 FROM arrivals WHERE outcome IS NULL")) <= 22
    for _ in range(3):
        world.settle()  # the store is listed again
    finish(world, run)


def test_of_too_many_alarms_the_oldest_and_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.state.QUARANTINE_ROWS", 4)
    with State(tmp_path) as state:
        for number in range(10):
            for alarm in (False, True):
                state.quarantine(str(number), "because", datetime.now(UTC), alarm=alarm)
        for alarm in (False, True):
            kept = state.rows("SELECT object FROM quarantine WHERE alarm=? ORDER BY id", alarm)
            assert [row["object"] for row in kept] == ["0", "1", "8", "9"]


def test_an_object_that_the_store_cannot_deliver_holds_nothing_else_up(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = f"{FEDERATION}/north/{run}/{'0' * 64}.manifest"
    world.store.objects[stuck] = b""
    for name in world.parts:
        world.parts[name].courier.incoming._note(stuck)
    read = world.store.read

    def refuse(key: str, limit: int) -> bytes:
        if key == stuck:
            raise StoreError("permission denied")
        return read(key, limit)

    monkeypatch.setattr(world.store, "read", refuse)
    for _ in range(6):
        for party in world.parties.values():
            party._paces.clear()  # as if time had passed
        world.turn()
    finish(world, run)


@pytest.mark.parametrize(
    "changes",
    [
        {"created": datetime(1, 1, 1, tzinfo=UTC)},
        {"expires": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)},
    ],
    ids=["the beginning", "the end"],
)
def test_an_artifact_that_lives_from_or_until_the_end_of_time_wedges_nobody(
    world: World, run: str, changes: dict[str, datetime]
) -> None:
    world.asleep = {"north"}
    forge(world, run, **changes)
    world.settle()
    world.asleep = set()
    world.parts[HUB].courier.accept()


def test_litter_under_ones_own_name_does_not_keep_a_party_from_starting(world: World) -> None:
    world.store.objects[f"{FEDERATION}/north/litter/{'0' * 64}.manifest"] = bytes(2 << 20)
    world.parts["north"].courier.check_own_past()


def test_what_a_member_says_of_a_run_that_nobody_offered_is_not_kept(world: World, run: str) -> None:
    north = world.parts["north"]
    north.courier.outgoing._guard = lambda *_: ""  # a traitor has no policy
    for kind in ("product.table", "echo.greeting"):
        north.courier.send(
            "phantom", kind, Message(kind, b"x" * 1000, NoData()),
            {"south": world.rings["south"].public.seal, HUB: world.rings[HUB].public.seal},
            expires=world.run(HUB, run).deadline,
        )  # fmt: skip
    finish(world, run)
    for name in (HUB, "south"):
        state = world.parts[name].state
        assert not state.rows("SELECT 1 FROM inbox WHERE run='phantom' AND state='ready'")
        assert not (state.folder / "runs" / "phantom").exists()
        assert not list(state.folder.glob("late/*"))


def test_what_a_member_says_of_a_run_before_its_offer_does_not_wait_for_ever(world: World, run: str) -> None:
    north = world.parts["north"].courier
    for kind in (JOIN, CANCEL):
        north.send(
            "phantom", kind, say(kind, Ending(reason="")),
            {"south": world.rings["south"].public.seal, HUB: world.rings[HUB].public.seal},
            expires=world.now + timedelta(days=3000),
        )  # fmt: skip
    finish(world, run)
    waiting = "SELECT kind FROM inbox WHERE run='phantom' AND state='ready'"
    assert not world.parts[HUB].state.rows(waiting)
    assert len(world.parts["south"].state.rows(waiting)) == 2  # their offer may be on its way
    world.pass_time(SiloDesk.early.total_seconds())
    world.publish_roster()
    world.settle()
    assert not world.parts["south"].state.rows(waiting)
    for name in (HUB, "south"):
        assert len([why for why in world.quarantined(name) if "never offered" in why]) == 2
        folder = world.parts[name].state.folder
        assert not (folder / "runs" / "phantom").exists()
        assert not list(folder.glob("late/*"))


def test_a_control_message_of_gigabytes_is_refused_before_it_is_fetched(world: World, run: str) -> None:
    world.asleep = {"north"}
    key = forge(world, run, kind="run.done", payload=bytes(2 << 20))
    world.settle()
    assert "too long" in world.quarantined(HUB)[0]
    body = read_manifest(world.store.objects[key]).body_sha256
    assert not any(body in got for got in world.store.gets)


def test_two_late_artifacts_never_share_a_file(world: World) -> None:
    def path(run: str, sender: str) -> Path:
        class Header:
            kind = "product.table"
            sequence = 1

        Header.run, Header.sender = run, sender  # type: ignore[attr-defined]
        return world.parts["north"].courier.incoming._path(Header)  # type: ignore[arg-type]

    assert path("trial-east", "clinic") != path("trial", "east-clinic")


def test_a_join_made_for_another_specification_is_refused_even_when_it_overtook_the_offer(world: World) -> None:
    world.asleep = {HUB, "south", "west"}
    run = world.submit()
    world.asleep = {"north", "south", "west"}
    world.settle()
    world.asleep = {HUB, "west", "south"}
    south = world.parts["south"]
    south.courier.send(
        run, "join", say(JOIN, Join(run_key=south.keys.make(run).hex, spec="0" * 64)),
        {"north": world.rings["north"].public.seal}, expires=world.run(HUB, run).deadline, schema_hash="0" * 64,
    )  # fmt: skip
    world.bus.queues["north"].clear()
    south.courier.deliver()
    world.parties["north"].exchange()
    world.settle()
    assert "south" not in world.run("north", run).parties


def test_a_desk_that_cannot_bear_a_message_sets_it_aside_after_three_times(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = world.hub.control

    def choke(name: str, artifact: Received) -> None:
        if artifact.kind == "run.done":
            raise TypeError("list indices must be integers")
        control(name, artifact)

    monkeypatch.setattr(world.hub, "control", choke)
    finish(world, run)
    assert len(world.quarantined(HUB)) == len(world.silos)


@pytest.mark.parametrize(
    ("victim", "sender", "kind"),
    [
        ("north", "west", CANCEL),  # who takes no part
        ("north", "south", FAILED),  # who does, and is not the coordinator
        (HUB, "west", FAILED),
        (HUB, "south", CANCEL),
    ],
)
def test_work_goes_on_when_somebody_says_its_end_who_may_not(
    world: World, monkeypatch: pytest.MonkeyPatch, victim: str, sender: str, kind: str
) -> None:
    run = world.submit(silos={"north": {}, "south": {}})
    half, work = (coordinator.Coordinator, "_sing") if victim == HUB else (silo.Silo, "_greet")
    real: Any = getattr(half, work)
    begun: list[int] = []

    def meanwhile(self: Any, progress: ProgressCallback) -> Message:
        if self._context.me == victim:
            begun.append(1)
            traitor = world.parts[sender].courier
            traitor.send(
                run, "treason", say(kind, Ending(reason="")), {victim: world.rings[victim].public.seal},
                expires=world.run(HUB, run).deadline, schema_hash=world.run(HUB, run).spec_hash,
            )  # fmt: skip
            traitor.deliver()
            world.parties[victim].exchange()  # the wire's thread goes on
        message: Message = real(self, progress)
        return message

    monkeypatch.setattr(half, work, meanwhile)
    world.settle()
    assert begun == [1]
    assert {world.run(name, run).phase for name in (HUB, "north", "south")} == {"done"}


def test_the_wire_s_death_is_the_party_s(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    north: Party = world.parties["north"]
    monkeypatch.setattr(north.courier, "deliver", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        north.run()


def test_a_pipe_in_the_store_s_folder_is_no_object(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(ObjectAbsent):
        store.read("a/pipe", 10)
