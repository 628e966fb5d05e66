"""Keys change in the middle of a run: nothing valid is refused, what the roster gave up is refused after its grace."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.errors import TrustError
from services.home import FORMER, KEYS, NEXT
from services.keyring import KeyRing
from services.keys import Identity
from services.trust import FormerKey, Roster
from tests.world import FEDERATION, HUB, World

EVERYBODY = (HUB, "north", "south", "west")


def rotate(world: World, *names: str, days: float = 1) -> None:
    """Members draw new keys, and the keyholder signs a roster with them."""
    members = {name: ring.public for name, ring in world.rings.items()}
    former = {}
    for name in names:
        former[name] = (FormerKey(verify=members[name].verify, until=world.now + timedelta(days=days)),)
        members[name] = world.rings[name].draw_next().public
    world.publish_roster(members=members, former=former)


def finish(world: World, run: str) -> None:
    world.settle()
    assert set(world.phases(run).values()) == {"done"}
    assert not any(world.quarantined(name) for name in EVERYBODY)


@pytest.mark.parametrize("turns", range(0, 12, 2))
@pytest.mark.parametrize("names", [("north",), (HUB,), EVERYBODY])
def test_keys_that_change_at_any_moment_of_a_run_lose_nothing(world: World, turns: int, names: tuple[str, ...]) -> None:
    old = {name: world.rings[name].public for name in EVERYBODY}
    run = world.submit()
    for _ in range(turns):
        world.turn()
    rotate(world, *names)
    for name in names:  # in whatever order they hear of it
        world.parts[name].trust.refresh()
        world.turn()
    finish(world, run)
    assert {name for name in EVERYBODY if world.rings[name].public != old[name]} == set(names)
    finish(world, world.submit())


def test_a_restart_between_drawing_and_naming_goes_on_with_both(world: World) -> None:
    run = world.submit()
    world.turn()
    new = world.rings["north"].draw_next().public
    world.rings["north"] = KeyRing(world.home("north"))
    world.restart("north")
    world.turn()
    rotate(world, "north")
    finish(world, run)
    assert world.rings["north"].public == new


def test_a_member_that_sleeps_through_another_s_rotation_accepts_what_came_before_and_after(world: World) -> None:
    world.asleep = {"south"}
    run = world.submit()
    for _ in range(6):
        world.turn()
    rotate(world, "north")
    world.parts["north"].trust.refresh()
    world.turn()
    world.asleep = set()
    finish(world, run)


def test_what_a_former_key_signed_is_refused_after_its_grace(world: World) -> None:
    world.asleep = {HUB}
    run = world.submit(deadline="3d")
    world.asleep = set()
    for _ in range(2):
        world.turn()  # the offer lies in the store
    world.asleep = {HUB}
    world.settle()  # and the joins of all silos, which the coordinator has not seen
    rotate(world, "north", days=0.5)
    world.parts["north"].trust.refresh()
    world.pass_time(86_400)
    world.publish_roster(members=world.repository.roster.members, former=world.repository.roster.former)
    world.asleep = set()
    world.settle()
    assert any("the signature does not hold" in reason for reason in world.quarantined(HUB))
    assert world.run(HUB, run).awaited() == ("north",)


def test_the_private_half_of_a_former_key_is_destroyed_after_its_grace_and_its_public_half_stays(world: World) -> None:
    ring = world.rings["north"]
    first = ring.public.verify
    rotate(world, "north", days=0.5)
    world.parts["north"].trust.refresh()
    assert len(ring.openers) == 2
    world.pass_time(86_400)
    world.repository.upload(world.store)
    world.parts["north"].trust.refresh()
    assert len(ring.openers) == 1
    assert not list(world.home("north").glob(f"{FORMER}/*/*.key"))
    assert first in ring.signed_with
    assert KeyRing(world.home("north")).public == ring.public


def test_ones_own_past_under_a_former_key_is_known(world: World) -> None:
    finish(world, world.submit())
    rotate(world, "north")
    world.parts["north"].trust.refresh()
    world.parts["north"].courier.check_own_past()


def test_a_crash_between_the_two_renames_loses_no_key(world: World) -> None:
    home = world.home("north")
    old, new = world.rings["north"].public, world.rings["north"].draw_next().public
    (home / FORMER).mkdir()
    (home / KEYS).rename(home / FORMER / old.verify.key_id[:16])
    ring = KeyRing(home)
    assert ring.public == new
    assert (home / KEYS).exists()
    assert not (home / NEXT).exists()
    assert len(ring.openers) == 2


def test_another_party_s_keys_are_no_next_keys(world: World) -> None:
    Identity.create(world.home("north") / NEXT, "south")
    with pytest.raises(TrustError, match="another party"):
        KeyRing(world.home("north"))


# revocation


def test_a_run_ends_when_a_participant_leaves_the_federation(world: World) -> None:
    world.asleep = {"west"}
    run = world.submit()
    world.settle()
    assert world.phases(run)["north"] == "joined"
    world.publish_roster(without=("west",))
    world.settle()
    phases = world.phases(run)
    assert {phases[name] for name in (HUB, "north", "south")} == {"failed"}
    assert "west left the federation" in world.run("north", run).detail
    assert world.parts["north"].keys.find(run) is not None  # for its last hour
    world.pass_time(7200)
    world.settle()
    assert world.parts["north"].keys.find(run) is None


def test_nothing_of_a_retired_member_is_accepted(world: World) -> None:
    world.asleep = {"north", "south", HUB}
    run = world.submit()
    world.asleep = set()
    for _ in range(2):
        world.turn()
    world.asleep = {HUB, "north", "south"}
    world.settle()  # west has joined, and nobody has read it
    world.publish_roster(without=("west",))
    world.parts[HUB].trust.refresh()
    world.asleep = {"west"}
    world.settle()
    assert world.run(HUB, run).phase == "failed"
    assert "west" not in world.run(HUB, run).parties
    assert [key for key in world.store.objects if key.startswith(f"{FEDERATION}/west/")]


# stale trust


def test_stale_trust_stops_joins_and_acceptance_and_no_local_work_and_heals_by_itself(world: World) -> None:
    run = world.submit()
    for _ in range(200):
        if world.phases(run)["north"] == "running":
            break
        world.turn()
    world.asleep = {HUB}
    world.pass_time(1200)  # the coordinator is away for longer than the timestamp lives
    world.settle()
    with pytest.raises(TrustError, match="stale"):
        _ = world.parts["north"].trust.roster
    assert world.parts["north"].state.finished(run, "greeting")  # worked on, sealed and sent all the same
    assert world.run("north", run).phase == "running"
    world.asleep = set()
    finish(world, run)


def test_a_store_that_shows_old_news_gets_nothing_accepted_once_the_timestamp_has_run_out(world: World) -> None:
    shown = {key: value for key, value in world.store.objects.items() if "/trust/" in key}
    run = world.submit()
    world.turn()
    world.pass_time(1200)

    def freeze() -> None:
        world.store.objects.update(shown)

    world.asleep = {HUB}
    for _ in range(10):
        freeze()
        world.turn()
        for name in ("north", "south", "west"):
            world.parts[name].trust.refresh()
    assert world.phases(run)["north"] == "unknown"
    assert not any(world.quarantined(name) for name in EVERYBODY)  # judged later, not refused
    world.asleep = set()
    world.repository._last = None
    finish(world, run)


def test_a_new_partys_folder_is_private_itself_not_only_what_lies_in_it(tmp_path: Path) -> None:
    KeyRing.create(tmp_path / "deep" / "state", "north")
    KeyRing.ensure(tmp_path / "other" / "state", "south")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/state")} == {0o700}


def test_a_ring_is_read_whole_though_another_process_turns_to_new_keys_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "state"
    service = KeyRing.create(home, "north")
    following = service.draw_next().public
    roster = Roster(federation="f", coordinator=HUB, members={"north": following})
    load = Identity.load

    def loaded(path: Path) -> Identity:
        if path.name == NEXT and not turning.ident:
            turning.start()
            turning.join(1.0)  # it waits for its turn, or has turned
        return load(path)

    turning = threading.Thread(target=lambda: service.follow(roster, datetime.now(UTC)))
    monkeypatch.setattr(Identity, "load", loaded)
    reader = KeyRing(home)
    turning.join()
    assert reader.next is None or reader.next.public == following
    assert KeyRing(home).public == following
