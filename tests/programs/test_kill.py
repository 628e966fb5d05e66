"""kill -9 at every moment that matters: after a restart the run ends well, nothing is lost, nothing is done twice."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.federation import HUB, Federation, until

EVERYWHERE = [
    # leaving
    "services.courier:seal:before:1",
    "services.courier:seal:after:1",
    "services.state:State.finish:after:1",  # inside the transaction that fills the outbox
    "services.courier:Courier.send:after:1",
    "services.courier:Courier.send:after:2",
    "services.store.folder:FolderStore.put:before:1",
    "services.store.folder:FolderStore.put:after:1",  # between body and manifest
    "services.store.folder:FolderStore.put:after:2",  # between manifest and notice
    "services.bus.sqlite:SqliteBus.announce:after:1",  # between notice and "sent"
    # arriving
    "services.bus.sqlite:SqliteBus.acknowledge:before:1",  # written down, not acknowledged
    "services.bus.sqlite:SqliteBus.acknowledge:after:1",
    "services.store.folder:FolderStore.read:after:1",
    "services.store.folder:FolderStore.get:after:1",  # fetched, not opened
    "services.courier:open_sealed:after:1",  # opened, not recorded
    "services.courier:Courier._record:after:1",
    # a run's life
    "services.runs:RunBook.admit:after:2",
    "services.runs:RunBook.move:before:1",
    "services.runs:RunBook.move:after:1",
    "services.host:Host._begin:before:1",
    "services.host:Host._do:before:1",
    "services.host:Host._do:after:1",
    "services.host:Host._hand:before:1",
    "services.host:Host._steps:after:2",  # handed over and worked on, not marked
    "services.host:Host._publish:before:1",
    "services.host:Host._publish:after:1",
    "services.host:Host._end:after:1",
    "services.host:remove_tree:before:1",
]
POINTS = [("east", where) for where in EVERYWHERE] + [
    (HUB, where) for where in EVERYWHERE if "_publish" not in where
]  # a coordinator of echo publishes nothing


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    folder = Path(tempfile.mkdtemp(prefix="silokit-"))
    one = Federation(folder)
    one.found()
    for name in (HUB, "east", "west"):
        one.start(name)
    yield one
    one.close()
    shutil.rmtree(folder)


def steps_of(federation: Federation, name: str, run: str) -> Counter[str]:
    (facts,) = [one for one in federation.facts(name) if one["run"] == run]
    return Counter(step["step"] for step in facts["steps"])


@pytest.mark.parametrize(("victim", "where"), POINTS, ids=[f"{name}:{where}" for name, where in POINTS])
def test_a_party_that_is_killed_and_started_again_finishes_the_run(
    federation: Federation, victim: str, where: str
) -> None:
    federation.stop(victim)
    federation.start(victim, fault=where)
    spec = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}
    run = federation.submit(spec)
    process = federation.processes[victim]
    until(f"{victim} dies at {where}", lambda: process.poll() is not None)
    assert federation.stop(victim) == -signal.SIGKILL
    federation.start(victim)
    everybody = (HUB, "east", "west")
    until("the run is done everywhere", lambda: all(federation.phase(name, run) == "done" for name in everybody))
    until("the coordinator has heard it", lambda: steps_of(federation, HUB, run).keys() >= {"done.east", "done.west"})

    for silo in ("east", "west"):
        chorus = federation.folder / silo / "outputs" / run / "chorus.txt"
        assert chorus.read_text() == "hello from east\nhello from west\n"
        assert not (federation.folder / silo / "state" / "runs" / run).exists() or silo == victim
        assert steps_of(federation, silo, run) == Counter(["join", "begin", "greeting", "keep", "ending"])
    assert steps_of(federation, HUB, run) == Counter(["offer", "begin", "chorus", "ending", "done.east", "done.west"])
    for name in everybody:
        with sqlite3.connect(federation.folder / name / "state" / "state.sqlite") as state:
            kinds = Counter(row[0] for row in state.execute("SELECT kind FROM outbox WHERE run=?", (run,)))
            alarms = state.execute("SELECT count(*) FROM quarantine").fetchone()[0]
        assert kinds == Counter(
            ["run.offer", "run.begin", "echo.chorus"] if name == HUB else ["run.join", "echo.greeting", "run.done"]
        )
        assert alarms == 0


@pytest.mark.parametrize("where", ["services.files:os.fsync:full:4", "services.courier:seal:full:1"])
def test_a_party_whose_disk_is_full_waits_and_goes_on(federation: Federation, where: str) -> None:
    federation.stop("east")
    federation.start("east", fault=where)
    spec = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}
    run = federation.submit(spec)
    until("the run is done", lambda: all(federation.phase(name, run) == "done" for name in (HUB, "east", "west")))
    assert "No space left on device" in federation.log("east")
    assert federation.processes["east"].poll() is None
