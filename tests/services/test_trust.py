"""A roster is believed when it leads back to the pinned root, nothing older is ever believed again, and none for long.

The attacks are those of the TUF specification (section 1.5.2), played on a whole repository in memory: the product's
own repository writes it, and a thief who holds the store, or the coordinator's keys, or a silo's, rewrites it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import DelegatedRole, Metadata, Timestamp

from coordinator.trust.metadata import make_timestamp, signed
from coordinator.trust.repository import Repository
from services.errors import BadSignature, InvalidArtifact, StateError, StoreError, TrustError
from services.keys import Identity, SigningKey, VerifyKey
from services.trust import SKEW, FormerKey
from services.trust.root import pin
from services.trust.tuf import TufTrust
from tests.scene import FED, Scene

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    return Scene(tmp_path)


def refused(trust: TufTrust, words: str) -> None:
    """The party looks, refuses what it sees, and keeps what it believed."""
    believed = trust._belief
    with pytest.raises(TrustError, match=words):
        trust.look()
    assert trust._belief == believed


# what is believed


def test_the_roster_is_believed_and_remembered_without_the_store(scene: Scene) -> None:
    assert scene.trust.member("north") == scene.people["north"].public
    assert scene.trust.coordinator == "coordinator"
    scene.store.down = True
    assert scene.party().member("north") == scene.people["north"].public


def test_a_new_member_is_found_and_one_who_left_is_a_stranger(scene: Scene) -> None:
    scene.people["west"] = Identity.create(scene.folder / "west", "west")
    south = scene.people.pop("south").public
    scene.publish()
    scene.trust.refresh()
    assert scene.trust.member("west") == scene.people["west"].public
    with pytest.raises(TrustError, match="not a member"):
        scene.trust.member(south.name)


def test_without_metadata_nobody_is_trusted(scene: Scene) -> None:
    pin(scene.folder / "newcomer", scene.repository.root_bytes)
    scene.store.objects.clear()
    trust = scene.party("newcomer")
    trust.refresh()
    with pytest.raises(TrustError, match="no roster of the federation is known yet"):
        trust.member("north")


def test_a_store_that_is_down_leaves_the_belief_in_force_until_it_is_stale(scene: Scene) -> None:
    scene.store.down = True
    scene.trust.refresh()
    assert scene.trust.member("north")
    scene.now += timedelta(minutes=6) + SKEW
    with pytest.raises(TrustError, match=r"stale since .*the store is down"):
        scene.trust.member("north")
    with pytest.raises(TrustError):
        scene.trust.verified("north", scene.now, lambda _key: None)
    scene.store.down = False
    scene.repository.upload(scene.store)
    scene.trust.refresh()
    assert scene.trust.member("north")


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_ten_minutes_off_is_tolerated(scene: Scene, minutes: int) -> None:
    scene.now += timedelta(minutes=minutes)
    assert scene.trust.look().roster == scene.trust.roster


def test_a_clock_that_is_a_day_ahead_refuses_and_says_why(scene: Scene) -> None:
    scene.now += timedelta(days=1)
    with pytest.raises(TrustError, match="nothing fresh") as raised:
        scene.trust.look()
    assert "clock" in raised.value.fix


def test_a_timestamp_is_renewed_every_minute_and_no_more_often(scene: Scene) -> None:
    versions = []
    for _ in range(8):
        scene.repository.upload(scene.store)
        versions.append(Metadata[Timestamp].from_bytes(scene.object("timestamp.json")).signed.version)
        scene.now += timedelta(seconds=20)
    assert sorted(set(versions)) == [1, 2, 3]


def test_a_week_without_news_signs_new_snapshots_by_itself(scene: Scene) -> None:
    for _ in range(6):
        scene.now += timedelta(days=1)
        scene.repository.upload(scene.store)
        scene.trust.look()
    assert len([name for name in scene.store.objects if name.endswith("snapshot.json")]) == 2


# strangers, and members whose news has not come yet


def test_a_stranger_is_told_from_stale_trust(scene: Scene) -> None:
    with pytest.raises(InvalidArtifact, match="not a member"):
        scene.trust.verified("mallory", scene.now, lambda _key: None)


def test_an_artifact_of_a_new_member_is_judged_later_where_the_news_cannot_be_had(scene: Scene) -> None:
    scene.people["west"] = Identity.create(scene.folder / "west", "west")
    scene.publish()
    scene.store.down = True
    with pytest.raises(StoreError):
        scene.trust.verified("west", scene.now, lambda _key: None)
    scene.store.down = False
    assert scene.trust.verified("west", scene.now, lambda key: key) == scene.people["west"].public.verify


def test_a_forgery_costs_one_look_however_often_it_is_tried(scene: Scene) -> None:
    def never(_key: VerifyKey) -> None:
        raise BadSignature("the signature does not hold")

    noticed = scene.now
    scene.now += timedelta(seconds=1)
    scene.store.gets.clear()
    for _ in range(20):
        with pytest.raises(InvalidArtifact):
            scene.trust.verified("north", noticed, never)
    assert sum(name.endswith("timestamp.json") for name in scene.store.gets) == 1


def test_a_former_key_is_taken_until_its_grace_ends(scene: Scene) -> None:
    old = scene.people["north"]
    scene.people["north"] = new = Identity.create(scene.folder / "north-2", "north")
    until = scene.now + timedelta(days=1)
    scene.publish(scene.roster(former={"north": (FormerKey(verify=old.public.verify, until=until),)}))

    def under(wanted: VerifyKey) -> Callable[[VerifyKey], VerifyKey]:
        def check(key: VerifyKey) -> VerifyKey:
            if key != wanted:
                raise BadSignature("the signature does not hold")
            return key

        return check

    for key in (old.public.verify, new.public.verify):
        assert scene.trust.verified("north", scene.now, under(key)) == key
    scene.now = until + timedelta(minutes=1)
    scene.repository.upload(scene.store)
    scene.trust.look()
    assert scene.trust.verified("north", scene.now, under(new.public.verify))
    with pytest.raises(InvalidArtifact):
        scene.trust.verified("north", scene.now, under(old.public.verify))


# attacks by whoever holds the store


def test_rollback_of_the_timestamp_is_refused(scene: Scene) -> None:
    old = scene.object("timestamp.json")
    scene.people.pop("south")
    scene.publish()
    scene.trust.look()
    scene.put("timestamp.json", old)
    refused(scene.trust, "version")


def test_freezing_is_noticed_when_the_timestamp_runs_out(scene: Scene) -> None:
    frozen = dict(scene.store.objects)
    scene.people.pop("south")  # somebody is revoked, and the store goes on showing the old state
    scene.publish()
    scene.store.objects = frozen
    scene.trust.look()
    assert scene.trust.member("south")  # not longer than the timestamp lives, and the clocks are off
    scene.now += timedelta(minutes=5, seconds=1) + SKEW
    refused(scene.trust, "nothing fresh")
    with pytest.raises(TrustError, match="stale"):
        scene.trust.member("south")


def test_a_mixture_of_old_targets_and_a_new_snapshot_is_refused(scene: Scene) -> None:
    old = scene.object("1.targets.json")
    scene.publish()
    scene.put("2.targets.json", old)
    refused(scene.trust, "Expected targets v2, got v1")


def test_an_altered_snapshot_is_refused(scene: Scene) -> None:
    scene.publish()
    scene.put("2.snapshot.json", scene.object("1.snapshot.json"))
    refused(scene.trust, "hash|length")


def test_an_altered_roster_is_refused(scene: Scene) -> None:
    shown = set(scene.store.objects)
    scene.people.pop("south")
    scene.publish()
    (name,) = (key for key in set(scene.store.objects) - shown if key.endswith("roster.json"))
    scene.store.objects[name] = scene.store.objects[name].replace(b"north", b"nozth")
    refused(scene.trust, "hash")


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.root.json"])
@pytest.mark.parametrize("data", [b"", b"litter", b"{}", b"[" * 100_000, bytes(6_000_000)])
def test_litter_in_the_place_of_metadata_is_refused(scene: Scene, name: str, data: bytes) -> None:
    scene.publish()
    scene.put(name, data)
    refused(scene.trust, "refused|lacks")


def test_signatures_that_are_cut_off_do_not_count(scene: Scene) -> None:
    scene.publish()
    value = json.loads(scene.object("2.targets.json"))
    value["signatures"] = value["signatures"][:1]
    scene.put("2.targets.json", json.dumps(value).encode())
    refused(scene.trust, "signed by 1/2")


def test_the_roster_of_another_federation_is_refused(scene: Scene) -> None:
    scene.publish(scene.roster(federation="others"))
    refused(scene.trust, "another federation")


# attacks by whoever stole the coordinator


def test_a_stolen_coordinator_makes_no_member(scene: Scene) -> None:
    mallory = Identity.create(scene.folder / "mallory", "mallory")
    roster = scene.roster(members={**scene.roster().members, "mallory": mallory.public})
    draft = scene.draft(roster)
    with pytest.raises(TrustError, match="no keyholder"):
        draft.sign(scene.online)
    forged = draft.new_targets
    scene.put("2.targets.json", signed(forged, scene.online))
    scene.forge_snapshot(scene.online, 2, version=2)
    refused(scene.trust, "signed by 0/2")


def test_one_keyholder_is_not_enough_and_signing_twice_is_not_two(scene: Scene) -> None:
    scene.people.pop("south")
    draft = scene.draft().sign(scene.holders["anna"]).sign(scene.holders["anna"])
    assert draft.lacks() == 1
    with pytest.raises(TrustError, match="1 more"):
        scene.repository.publish(draft)
    scene.put("2.targets.json", draft.new_targets.to_bytes())
    scene.forge_snapshot(scene.online, 2, version=2)
    refused(scene.trust, "signed by 1/2")


def test_a_stolen_coordinator_rolls_nobody_back(scene: Scene) -> None:
    scene.people.pop("south")
    scene.publish()
    scene.trust.look()
    scene.forge_snapshot(scene.online, 1, version=3)
    refused(scene.trust, "version")


def test_a_stolen_coordinator_withholds_a_revocation_only_until_the_targets_expire(scene: Scene) -> None:
    scene.forge_snapshot(scene.online, 1, version=1)
    for day in range(7):
        scene.trust.look()
        scene.now += timedelta(days=1)
        scene.forge_snapshot(scene.online, 1, version=day + 2)
    scene.now += timedelta(hours=1)
    scene.forge_snapshot(scene.online, 1, version=9)
    refused(scene.trust, "the roster has expired")


def test_versions_that_a_thief_ran_far_ahead_are_overcome_by_a_new_online_key(scene: Scene) -> None:
    scene.forge_snapshot(scene.online, 1, version=2_000_000_000)
    data = scene.object("2000000000.snapshot.json")
    scene.put("timestamp.json", signed(make_timestamp(2_000_000_000, data, 2_000_000_000, scene.now), scene.online))
    scene.trust.look()
    honest = scene.folder / "repository"
    with pytest.raises(StateError, match="newer snapshot"):
        Repository(honest, FED, lambda: scene.now).upload(scene.store)
    scene.repository = Repository(honest, FED, lambda: scene.now)
    scene.online = scene.repository.draw_online()
    scene.publish(online=scene.online)
    assert scene.trust.look().version == 2
    assert scene.newcomer().look().version == 2


# attacks by a silo, on others' names


def test_a_member_signs_for_its_own_name(scene: Scene) -> None:
    scene.sign_catalog(scene.people["north"].signing, "north", "north/generator.json", b"mine")
    scene.forge_snapshot(scene.online, 1, version=2, members=("north",))
    assert scene.trust.target("north/generator.json", 100) == b"mine"
    assert scene.trust.target("north/another.json", 100) is None
    with pytest.raises(TrustError, match="longer"):
        scene.trust.target("north/generator.json", 3)


def test_a_member_does_not_sign_for_another_s_name(scene: Scene) -> None:
    scene.sign_catalog(scene.people["north"].signing, "north", "south/generator.json")
    scene.sign_catalog(scene.people["south"].signing, "south", "south/other.json")
    scene.forge_snapshot(scene.online, 1, version=2, members=("north", "south"))
    assert scene.trust.target("south/generator.json", 100) is None
    assert scene.trust.target("roster.json", 1 << 20) == scene.object(
        next(key for key in scene.store.objects if key.endswith("roster.json")).removeprefix(f"{FED}/trust/")
    )


@pytest.mark.parametrize("thief", ["north", "coordinator"])
def test_a_catalog_under_a_wrong_key_is_refused(scene: Scene, thief: str) -> None:
    scene.sign_catalog(scene.people[thief].signing, "south", "south/generator.json")
    scene.forge_snapshot(scene.online, 1, version=2, members=("south",))
    with pytest.raises(TrustError, match="signed by 0/1"):
        scene.trust.target("south/generator.json", 100)


def test_a_delegation_covers_one_level_below_a_name_and_ends_the_search(scene: Scene) -> None:
    targets = scene.repository.targets
    assert targets.delegations is not None
    roles: dict[str, DelegatedRole] = targets.delegations.roles or {}
    assert set(roles) == {"coordinator", "north", "south"}
    for name, role in roles.items():
        assert (role.threshold, role.terminating, role.paths) == (1, True, [f"{name}/*"])
        assert role.is_delegated_path(f"{name}/a")
        assert not role.is_delegated_path(f"{name}/a/b")
        assert not role.is_delegated_path(f"{name}x/a")


# the root's life


def test_keyholders_are_replaced_and_the_old_ones_sign_no_more(scene: Scene) -> None:
    old = dict(scene.holders)
    scene.holders = {"anna": old["anna"], "dora": SigningKey.generate(), "emil": SigningKey.generate()}
    draft = scene.draft(holders=scene.holders)
    for key in (old["anna"], old["ben"]):
        draft = draft.sign(key)
    assert draft.lacks() == 1  # the new ones must agree too
    scene.repository.publish(draft.sign(scene.holders["dora"]))
    scene.repository.upload(scene.store)
    assert scene.trust.look().version == 2
    with pytest.raises(TrustError, match="no keyholder"):
        scene.draft().sign(old["cleo"])
    scene.publish(signers=("dora", "emil"))
    assert scene.trust.look().version == 3


def test_another_root_is_not_pinned_over_the_first(scene: Scene) -> None:
    folder = scene.folder / "others"
    folder.mkdir()
    others = Scene(folder)
    with pytest.raises(TrustError, match="another root is pinned"):
        pin(scene.folder / "party", others.repository.root_bytes)
    pin(scene.folder / "party", scene.repository.root_bytes)  # the same one again changes nothing
    refused(TufTrust(FED, scene.folder / "party", others.store, lambda: scene.now), "refused")
