"""A federation in memory, and a run under way in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World


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
