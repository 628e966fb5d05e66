"""Published generators lie outside every run: no arrival of anybody, called off with no run, in one chain of their own.

The hand-over to the pool, without the catalog that tells of it.
"""

from __future__ import annotations

import pytest

from services.artifact import POOL
from services.courier import RunOver
from services.errors import InvalidArtifact
from services.seal import read_manifest
from tests.pool import publish
from tests.world import FEDERATION, HUB, World


def pool(world: World) -> list[str]:
    return sorted(key for key in world.store.objects if key.startswith(f"{FEDERATION}/north/{POOL}/"))


def test_generators_have_a_chain_of_their_own_and_leave_the_run_s_untouched(world: World, run: str) -> None:
    publish(world, run, step="one")
    publish(world, run, step="two")
    publish(world, run, step="two")  # finished: nothing more
    world.settle()
    assert set(world.phases(run).values()) == {"done"}
    manifests = [read_manifest(world.store.objects[key]) for key in pool(world) if key.endswith(".manifest")]
    assert sorted(one.header.sequence for one in manifests) == [1, 2]
    assert {one.header.run for one in manifests} == {POOL}
    assert len(pool(world)) == 4


def test_a_generator_is_nobody_s_arrival_neither_announced_nor_listed(world: World, run: str) -> None:
    publish(world, run)
    world.settle()
    for parts in world.parts.values():
        assert not parts.state.rows("SELECT 1 FROM arrivals WHERE object LIKE ?", f"%/{POOL}/%")
        assert not parts.state.rows("SELECT 1 FROM inbox WHERE run=?", POOL)
    assert all(not world.quarantined(name) for name in world.parts)


def test_a_sealed_generator_leaves_although_its_run_is_called_off_then(world: World, run: str) -> None:
    world.store.down = True
    publish(world, run)
    world.silo("north").decline(run)
    world.store.down = False
    world.parties["north"]._paces.clear()
    world.settle()
    assert len(pool(world)) == 2
    assert world.parts["north"].purge(run)
    assert len(pool(world)) == 2


def test_nothing_is_sealed_into_the_pool_for_a_run_that_ended(world: World, run: str) -> None:
    world.silo("north").decline(run)
    with pytest.raises(RunOver):
        publish(world, run)
    world.settle()
    assert pool(world) == []


def test_no_run_is_called_pool(world: World) -> None:
    with pytest.raises(InvalidArtifact, match="no run may be called"):
        world.parts[HUB].book.open(POOL, "{}", HUB, world.now, world.now)
