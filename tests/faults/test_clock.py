"""A clock that is wrong by ten minutes changes nothing; by a day, nothing is accepted, and the reason names clocks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.errors import TrustError
from tests.world import HUB, World

WRONG = ["north", HUB]


def run_with(world: World, name: str, skew: timedelta) -> str:
    world.skew[name] = skew
    run = world.submit()
    world.settle()
    return run


def said(world: World, silo: str) -> list[str]:
    """What a silo's people can read: of artifacts that it set aside, and of trust that it takes for stale."""
    words = world.quarantined(silo)
    try:
        _ = world.parts[silo].trust.roster
    except TrustError as error:
        words.append(str(error))
    return words


@pytest.mark.parametrize("minutes", [-10, 10])
@pytest.mark.parametrize("name", WRONG)
def test_ten_minutes_change_nothing(tmp_path: Path, name: str, minutes: int) -> None:
    world = World(tmp_path)
    run = run_with(world, name, timedelta(minutes=minutes))
    assert set(world.phases(run).values()) == {"done"}
    assert not any(world.quarantined(one) for one in world.parts)
    world.close()


@pytest.mark.parametrize("days", [-1, 1])
@pytest.mark.parametrize("name", WRONG)
def test_a_day_is_refused_with_a_word_about_clocks_and_heals_when_it_is_set_right(
    tmp_path: Path, name: str, days: int
) -> None:
    world = World(tmp_path)
    run = run_with(world, name, timedelta(days=days))
    refusing = ["north"] if name == "north" else list(world.silos)
    for silo in refusing:
        assert world.phases(run)[silo] == "unknown", "an offer was taken"
        words = said(world, silo)
        assert words
        assert all("clock" in word for word in words)
    assert "done" not in world.phases(run).values()
    world.hub.cancel(run)
    world.skew.clear()
    again = world.submit()
    world.settle()
    assert set(world.phases(again).values()) == {"done"}
    world.close()
