"""A federation in memory for whoever asks for one; and what tests measure is shown at the end of the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported, and for every program that tests start: they share the cores with other tests, where a
# computation's threads wait for each other, spinning, longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.world import World

pytest_plugins = ["tests.wire.fixtures", "tests.wire.object_fixtures"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def run(world: World) -> str:
    """A run in which everybody has joined and the silos' greetings are on their way."""
    run = world.submit()
    while set(world.phases(run).values()) != {"running"}:
        world.turn()
    return run


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells a figure that the session shows at its end."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show every figure."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    figures = sorted({str(text) for report in reports for name, text in report.user_properties if name == "figure"})
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.write_line(text)
