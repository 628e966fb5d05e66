"""kill -9 in the middle of real training: what was sealed is not trained again, and the result is as complete as ever.

The same deaths as in `test_kill.py`, in a run of SiloFuse with little training: in CI a few that are spread over the
whole run, from the alignment to the last report; with FAULTS=all many.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import structlog
import torch

from services.state import State
from services.store.folder import FolderStore
from tests import tables
from tests.faults.boundaries import Point, read_points
from tests.faults.disk import DISK
from tests.faults.divided import Buses, Divided, live_through
from tests.faults.promise import Promise
from tests.world import HUB

DEATHS = 60 if os.environ.get("FAULTS") == "all" else 3  # of each victim
TRAINING = {"steps": 8, "batch": 32, "epochs": 2}
EVERYBODY = (HUB, *tables.COLUMNS)


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, since a forked process has no others, and no reports, which take seconds and have their own tests."""
    monkeypatch.setattr("protocols.silofuse.report.available", lambda: False)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    structlog.reset_defaults()


def live(folder: Path, victim: str, fatal: Point | None = None, record: Path | None = None) -> bool:
    """A whole run; returns whether the victim died."""
    world = Divided(
        folder, silos=tuple(tables.COLUMNS), protocol="silofuse", tables=tables.write_silos(folder, rows=120),
        store=FolderStore(folder / "store"), bus=Buses(folder / "bus.sqlite"), victim=victim,
    )  # fmt: skip
    world.specification = tables.spec(training=TRAINING)
    return live_through(world, fatal, record)


def left(folder: Path) -> Promise:
    """What a clean run leaves at everybody."""
    steps, kinds = {}, {}
    for name in EVERYBODY:
        with State(folder / name / "state", writer=False) as state:
            steps[name] = {row["step"] for row in state.rows("SELECT step FROM steps")}
            kinds[name] = sorted(row["kind"] for row in state.rows("SELECT kind FROM outbox"))
    return Promise(steps, kinds, "synthetic.csv")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", [HUB, "south"])
def test_a_party_that_dies_in_the_middle_of_training_finishes_the_run(
    victim: str, figure: Callable[[str], None]
) -> None:
    with tempfile.TemporaryDirectory(prefix="silokit-", dir=DISK) as name:
        clean = Path(name)
        live(clean, victim, record=clean / "points")
        promise, points = left(clean), read_points(clean / "points")
        promise.check(clean)
        assert {"silofuse.latents", "run.done"} <= set(promise.kinds["south"])
    killed = 0
    for number in range(DEATHS):
        point = points[(2 * number + 1) * len(points) // (2 * DEATHS)]
        with tempfile.TemporaryDirectory(prefix="silokit-", dir=DISK) as name:
            killed += live(Path(name), victim, fatal=point)
            promise.check(Path(name))
            for silo, path in {silo: Path(name) / silo for silo in tables.COLUMNS}.items():
                (table,) = path.glob("outputs/*/synthetic.csv")
                found = pd.read_csv(table)
                assert set(found.columns) == set(tables.COLUMNS[silo]), point
                assert len(found) == 50
    figure(
        f"SiloFuse: {victim} killed at {killed} of {DEATHS} moments of {len(points)}; the others came in another order"
    )
    assert killed >= DEATHS - 1  # the order of a listing follows digests: a life may pass a rare moment by
