"""kill -9 of real programs, two threads at work: after a restart the run ends well, nothing is lost or done twice.

`tests/faults/test_kill.py` dies at every boundary there is, with parties that take turns; here some of those deaths
meet the other thread at whatever it is doing. With FAULTS=all all of them, otherwise every third.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest

from services.store.folder import FolderStore
from tests.programs.federation import HUB, Federation, temporary, until

EITHER = [
    # leaving
    "services.courier.outgoing:seal:before:1",
    "services.state:State.finish:after:1",  # inside the transaction that fills the outbox
    "services.courier.outgoing:Outgoing.send:after:1",
    "services.bus.sqlite:SqliteBus.announce:after:1",  # between notice and "sent"
    # arriving
    "services.bus.sqlite:SqliteBus.acknowledge:before:1",  # written down, not acknowledged
    "services.store.folder:FolderStore.get:after:1",  # fetched, not opened
    "services.courier.incoming:open_sealed:after:1",  # opened, not recorded
    "services.courier.incoming:Incoming._record:after:1",
    # a run's life
    "services.runs:RunBook.admit:after:2",
    "services.runs:RunBook.move:before:1",
    "services.host:Host._begin:before:1",
    "services.runs:RunBook.note_progress:after:1",  # in the middle of a computation
    "services.host:Host._do:after:1",
    "services.host:Host._drive:before:2",  # the hand-over is written down, the half has not seen it
    "services.host:Host._steps:after:2",  # handed over and worked on, not marked
    "services.host:Host._end:after:1",
]
SILO = [
    "services.runs:save_private:after:1",  # the run key is made, nobody has it
    "services.courier.outgoing:seal:after:1",
    "services.courier.outgoing:Outgoing.send:after:2",
    "services.store.folder:FolderStore.put:before:1",
    "services.store.folder:FolderStore.put:after:1",  # between body and manifest
    "services.store.folder:FolderStore.put:after:2",  # between manifest and notice
    "services.courier.incoming:Incoming._read:after:1",
    "services.bus.sqlite:SqliteBus.acknowledge:after:1",
    "services.runs:RunBook.move:after:1",
    "services.host:Host._do:before:1",
    "services.host:Host._publish:before:1",
    "services.host:Host._publish:after:1",  # its result lies there, its run goes on
    "services.host:remove_tree:before:1",
]
COORDINATOR = [  # at its start it puts the trust's four objects
    "services.store.folder:FolderStore.put:after:5",  # between body and manifest
    "services.store.folder:FolderStore.put:after:6",  # between manifest and notice
]
EVERY = [("east", where) for where in EITHER + SILO] + [(HUB, where) for where in EITHER + COORDINATOR]
POINTS = EVERY if os.environ.get("FAULTS") == "all" else EVERY[::3]
EVERYBODY = (HUB, "east", "west")
_SILO_STEPS = {"join", "begin", "greeting", "keep", "ending"}
STEPS = {
    HUB: {"offer", "begin", "chorus", "ending", "done.east", "done.west"},
    "east": _SILO_STEPS,
    "west": _SILO_STEPS,
}
_SILO_KINDS = ["echo.greeting", "run.done", "run.join"]
KINDS = {HUB: ["echo.chorus", "run.begin", "run.offer"], "east": _SILO_KINDS, "west": _SILO_KINDS}
SPEC = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with temporary() as one:
        one.found()
        for name in EVERYBODY:
            one.start(name)
        yield one


def rows(federation: Federation, name: str, query: str, *values: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(federation.folder / name / "state" / "state.sqlite")) as state:
        return state.execute(query, values).fetchall()


def finished(federation: Federation, name: str, run: str) -> dict[str, datetime]:
    found = rows(federation, name, "SELECT step, finished FROM steps WHERE run=?", run)
    return {step: datetime.fromisoformat(at) for step, at in found}


def done_and_settled(federation: Federation, run: str) -> bool:
    return all(
        federation.phase(name, run) == "done"
        and finished(federation, name, run).keys() >= STEPS[name]
        and not (federation.folder / name / "state" / "runs" / run).exists()
        for name in EVERYBODY
    )


@pytest.mark.parametrize(("victim", "where"), POINTS, ids=[f"{name}:{where}" for name, where in POINTS])
def test_a_party_that_is_killed_and_started_again_finishes_the_run(
    federation: Federation, victim: str, where: str
) -> None:
    federation.stop(victim)
    federation.start(victim, fault=where)
    run = federation.submit(SPEC)
    process = federation.processes[victim]
    until(f"{victim} dies at {where}", lambda: process.poll() is not None)
    assert federation.stop(victim) == -signal.SIGKILL
    federation.start(victim)
    until("the run is done and its plaintext gone everywhere", lambda: done_and_settled(federation, run))

    for silo in ("east", "west"):
        chorus = federation.folder / silo / "outputs" / run / "chorus.txt"
        assert chorus.read_text() == "hello from east\nhello from west\n"
    for name in EVERYBODY:
        steps = finished(federation, name, run)
        assert steps.keys() == STEPS[name]
        begun = [line for line in federation.events(name, "work") if line["run"] == run]
        late = [one["step"] for one in begun if datetime.fromisoformat(one["timestamp"]) > steps[one["step"]]]
        assert not late, "computed again although finished"
        outbox = rows(federation, name, "SELECT kind, digest, body FROM outbox WHERE run=?", run)
        assert sorted(kind for kind, _, _ in outbox) == KINDS[name]
        sender = "coordinator" if name == HUB else name
        listed = FolderStore(federation.folder / "store").list(f"f/{sender}/{run}/")
        published = {key.rpartition("/")[2] for key in listed}
        assert {name for name in published if name.endswith(".manifest")} == {f"{one[1]}.manifest" for one in outbox}
        assert len(published) == 2 * len(outbox)
        assert rows(federation, name, "SELECT * FROM quarantine") == []


@pytest.mark.parametrize("where", ["services.files:os.fsync:full:4", "services.courier.outgoing:seal:full:1"])
def test_a_party_whose_disk_is_full_waits_and_goes_on(federation: Federation, where: str) -> None:
    federation.stop("east")
    federation.start("east", fault=where)
    run = federation.submit(SPEC)
    until("the run is done", lambda: done_and_settled(federation, run))
    assert "No space left on device" in federation.log("east")
    assert federation.processes["east"].poll() is None
