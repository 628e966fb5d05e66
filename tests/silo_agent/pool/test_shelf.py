"""What a silo published is listed whatever dies meanwhile, and whoever comes later is given it without a new charge."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from services.artifact import POOL, Derived
from services.ledger import Ledger
from services.seal import read_manifest
from services.trust.catalog import Listed
from tests.pool import change_keys, join, originals, publish, settle
from tests.world import DATASET, FEDERATION, HUB, World


def listed(world: World, reader: str = "south") -> dict[str, Listed]:
    """What north lists, as a reader sees it."""
    return dict(world.parts[reader].trust.catalog().generators.get("north", {}))


def recipients(world: World, digest: str) -> set[str]:
    manifest = world.store.objects[f"{FEDERATION}/north/{POOL}/{digest}.manifest"]
    ids = set(read_manifest(manifest).header.recipients)
    return {name for name, ring in world.rings.items() if ring.public.seal.key_id in ids}


def test_a_published_generator_is_listed_with_what_its_run_and_the_ledger_say(world: World, run: str) -> None:
    digest = publish(world, run, payload=b"12345")
    settle(world)
    (one,) = listed(world).values()
    assert (one.digest, one.length, one.about.run, one.about.dataset) == (digest, 5, run, DATASET)
    assert one.about.seals == (digest,)
    assert recipients(world, digest) == {HUB, "south", "west"}
    assert set(world.phases(run).values()) == {"done"}


def test_several_are_listed_and_the_catalog_is_sent_once_for_each_change(world: World, run: str) -> None:
    publish(world, run, step="one")
    publish(world, run, step="two", payload=b"another")
    settle(world)
    settle(world)
    assert len(listed(world)) == 2
    assert world.repository._catalogs()["north.json"].version == 1


def test_a_crash_between_seal_and_catalog_loses_nothing(world: World, run: str) -> None:
    digest = publish(world, run)
    world.restart("north")
    settle(world)
    assert set(listed(world)) == {digest}


@pytest.mark.parametrize("place", ["remember", "finish"])
def test_a_crash_while_the_catalog_is_sent_loses_nothing(
    world: World, run: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = publish(world, run)
    state = world.parts["north"].state
    true = getattr(state, place)

    def die(name: str, *rest: object) -> None:
        if "catalog" in f"{name} {rest}":
            raise sqlite3.OperationalError("the disk went away")
        true(name, *rest)

    monkeypatch.setattr(state, place, die)
    with pytest.raises(sqlite3.OperationalError):
        world.silo("north").shelf.tick()
    world.restart("north")
    settle(world)
    assert set(listed(world)) == {digest}


def test_a_coordinator_that_was_away_adopts_later(world: World, run: str) -> None:
    digest = publish(world, run)
    world.kill(HUB)
    for _ in range(20):
        world.turn()
    world.start(HUB)
    settle(world)
    assert set(listed(world)) == {digest}


def test_a_catalog_whose_message_was_lost_is_sent_again(world: World, run: str) -> None:
    digest = publish(world, run)
    world.asleep.add(HUB)
    for _ in range(20):
        world.turn()
    lost = [key for key in world.store.objects if f"/north/{run}/" in key]
    for key in lost:
        if key.endswith(".body"):
            world.store.objects.pop(key)
    world.asleep.clear()
    for _ in range(3):
        settle(world, minutes=4)
    assert set(listed(world)) == {digest}


def test_a_late_member_is_given_a_seal_that_charges_nothing(world: World, run: str) -> None:
    digest = publish(world, run)
    settle(world)
    before = Ledger(world.parts["north"].state).verify()
    join(world, "late")
    settle(world)
    (one,) = listed(world, "late").values()
    first, second = one.about.seals
    assert first == digest
    assert recipients(world, second) == {"late"}
    header = read_manifest(world.store.objects[f"{FEDERATION}/north/{POOL}/{second}.manifest"]).header
    assert header.release == Derived(digests=(digest,))
    assert Ledger(world.parts["north"].state).verify() == before
    settle(world)
    assert len(originals(world.parts["north"].state)) == 2  # and once is enough


def test_a_member_with_new_keys_is_given_a_seal_to_them(world: World, run: str) -> None:
    publish(world, run)
    settle(world)
    change_keys(world, "west")
    settle(world)
    (one,) = listed(world).values()
    assert len(one.about.seals) == 2
    assert recipients(world, one.about.seals[-1]) == {"west"}


def test_an_owner_with_new_keys_signs_seals_and_catalog_anew(world: World, run: str) -> None:
    publish(world, run)
    settle(world)
    change_keys(world, "north")
    settle(world)
    (one,) = listed(world).values()
    assert recipients(world, one.about.seals[-1]) == {HUB, "south", "west"}


def test_a_withdrawn_generator_leaves_catalog_and_store(world: World, run: str) -> None:
    first, second = publish(world, run, step="one"), publish(world, run, step="two", payload=b"another")
    settle(world)
    assert "who pulled it keeps it" in world.silo("north").shelf.withdraw(first[:8])
    settle(world)
    assert set(listed(world)) == {second}
    kept = [key for key in world.store.objects if f"/north/{POOL}/" in key]
    assert len(kept) == 2
    assert not (world.home("north") / POOL / "own" / first).exists()
    world.silo("north").shelf.withdraw(second)
    world.restart("north")
    settle(world)
    assert listed(world) == {}


def test_a_catalog_is_signed_anew_long_before_it_expires(world: World, run: str) -> None:
    publish(world, run)
    settle(world)
    world.now += timedelta(days=200)
    world.publish_roster()
    settle(world)
    assert world.repository._catalogs()["north.json"].version == 2
    assert len(listed(world)) == 1
