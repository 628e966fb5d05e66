"""kill -9 at every boundary of a run: it finishes, nothing is lost, nothing is done twice.

A clean run says which boundaries there are; then, for each, a run is begun anew in which the victim dies exactly there
and is started again. In CI every site dies at its first passing, one before it and the next one after it by turns; with
FAULTS=all at every passing, before and after.
What taking turns leaves out, a death between two threads at work, `tests/programs/test_kill.py` has: real programs.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import structlog

from services.store.folder import FolderStore
from tests.faults.boundaries import Point, read_points
from tests.faults.disk import DISK
from tests.faults.divided import Buses, Divided, live_through
from tests.faults.promise import Promise
from tests.world import HUB

ALL = os.environ.get("FAULTS") == "all"
LIVES = 20  # the order of a listing follows digests, so a life may pass a rare site by: then the next one dies there
LEAST = {HUB: 60, "east": 60}  # points


SILOS = ("east", "west")
_STEPS, _KINDS = {"join", "begin", "greeting", "keep", "ending"}, ["echo.greeting", "run.done", "run.join"]
PROMISE = Promise(
    steps={HUB: {"offer", "begin", "chorus", "ending", *(f"done.{silo}" for silo in SILOS)}}
    | dict.fromkeys(SILOS, _STEPS),
    kinds={HUB: ["echo.chorus", "run.begin", "run.offer"]} | dict.fromkeys(SILOS, _KINDS),
    result="chorus.txt",
)
CHORUS = "".join(f"hello from {silo}\n" for silo in SILOS).encode()


def live(folder: Path, victim: str, fatal: Point | None = None, record: Path | None = None) -> bool:
    """A whole run of two silos, which must keep the promise; returns whether the victim died."""
    world = Divided(
        folder, silos=SILOS, store=FolderStore(folder / "store"), bus=Buses(folder / "bus.sqlite"), victim=victim
    )
    world.specification = world.spec()
    died = live_through(world, fatal, record)
    PROMISE.check(folder)
    assert PROMISE.results(folder) == dict.fromkeys(SILOS, CHORUS)
    return died


def recorded(victim: str) -> list[Point]:
    """Every point that the victim passes in a clean life, which keeps the promise as well."""
    with tempfile.TemporaryDirectory(prefix="silokit-", dir=DISK) as folder:
        live(Path(folder), victim, record=Path(folder) / "points")
        return read_points(Path(folder) / "points")


def chosen(points: list[Point]) -> list[Point]:
    """Those to die at: all of them, or the first passing of each site, before or after it by turns."""
    if ALL:
        return points
    first: dict[str, list[Point]] = {}
    for point in points:
        if point.count == 1:
            first.setdefault(point.site, []).append(point)
    return [moments[number % len(moments)] for number, moments in enumerate(first.values())]


def die_at(victim: str, point: Point) -> str:
    """Live through one death; returns what became of it: killed, skipped, or what is wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for _ in range(LIVES):
        with tempfile.TemporaryDirectory(prefix="silokit-", dir=DISK) as folder:
            try:
                killed = live(Path(folder), victim, fatal=point)
            except Exception:  # noqa: BLE001 - told with the point that it belongs to
                return f"{victim} dies {' '.join(map(str, point))}:\n{traceback.format_exc()}"
            if killed:
                return "killed"
    return "skipped"


@pytest.mark.parametrize("victim", [HUB, "east"])
def test_a_party_that_dies_at_any_boundary_finishes_the_run(victim: str, figure: Callable[[str], None]) -> None:
    began = time.monotonic()
    passed = recorded(victim)
    points = chosen(passed)
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(die_at, [victim] * len(points), points))
    skipped = [point for point, what in zip(points, found, strict=True) if what == "skipped"]
    failures = [what for what in found if what not in {"killed", "skipped"}]
    figure(
        f"{victim} killed at {len(points) - len(skipped)} points of {len({one.site for one in points})} sites"
        f" (all in a run: {len(passed)} points), {len(skipped)} skipped; {time.monotonic() - began:.0f} s"
    )
    assert not failures, "\n".join([f"{len(failures)} of {len(points)}", *failures[:5]])
    assert not skipped, skipped
    assert {point.site for point in points} == {point.site for point in passed}
    assert len(points) >= LEAST[victim]
