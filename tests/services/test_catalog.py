"""A silo lists its own generators and nobody else's, and no list is believed that is old, mixed, forged or withdrawn.

Played on a whole TUF repository in memory, as `test_trust`: the coordinator adopts what silos sign, and thieves of the
store, of the coordinator's keys or of a silo's rewrite it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Delegations, Metadata, Snapshot, Targets

from coordinator.trust.metadata import make_snapshot, make_timestamp, signed
from coordinator.trust.repository import Repository
from services.artifact import Spend, digest
from services.errors import InvalidArtifact, TrustError
from services.keys import Identity, SigningKey
from services.mechanism import Gaussian, Mechanism
from services.trust.catalog import GENERATOR, Listed, Published, make_catalog, release_text
from tests.scene import FED, Scene

RELEASE = Spend(mechanism=Mechanism(event=Gaussian(noise_multiplier=8.0)).model_dump(mode="json"), delta=1e-5)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    return Scene(tmp_path)


def listed(silo: str = "north", number: int = 1, **changes: Any) -> Listed:
    name = digest(f"{silo} {number}".encode())
    about = {"run": "trial", "kind": GENERATOR, "release": release_text(RELEASE), "seals": (name,), **changes}
    return Listed(silo, name, digest(b"plain"), 5, Published(**about))


def catalog(scene: Scene, version: int, *entries: Listed, key: SigningKey | None = None, silo: str = "north") -> bytes:
    made = make_catalog(version, entries, scene.now + timedelta(days=365))
    return signed(made, key or scene.people[silo].signing)


def adopt(scene: Scene, version: int, *entries: Listed, silo: str = "north") -> None:
    scene.repository.adopt(silo, catalog(scene, version, *entries, silo=silo))
    scene.repository.upload(scene.store)


# what is believed


def test_everybody_reads_what_every_silo_lists_in_one_go(scene: Scene) -> None:
    assert scene.trust.catalog().generators == {}
    adopt(scene, 1, listed(number=1), listed(number=2, family="moments", label="income", dataset="visits"))
    adopt(scene, 1, listed("south"), silo="south")
    found = scene.trust.catalog()
    assert {silo: len(entries) for silo, entries in found.generators.items()} == {"north": 2, "south": 1}
    one = listed(number=2, family="moments", label="income", dataset="visits")
    assert found.generators["north"][one.digest] == one
    assert one.about.spend() == RELEASE
    assert found.faults == {}
    assert scene.trust.belief.catalogs == {"north": 1, "south": 1}


def test_the_catalogs_are_fetched_once_for_each_version(scene: Scene) -> None:
    adopt(scene, 1, listed())
    adopt(scene, 1, listed("south"), silo="south")
    scene.trust.catalog()
    scene.store.gets.clear()
    scene.trust.catalog()
    assert not [key for key in scene.store.gets if "north" in key or "south" in key]
    adopt(scene, 2, listed(), listed(number=2))
    scene.store.gets.clear()
    assert len(scene.trust.catalog().generators["north"]) == 2
    assert [key for key in scene.store.gets if "north" in key or "south" in key] == [f"{FED}/trust/2.north.json"]


def test_new_members_and_new_catalogs_leave_the_others_catalogs_in_force(scene: Scene) -> None:
    adopt(scene, 1, listed())
    scene.people["west"] = Identity.create(scene.folder / "west", "west")
    scene.publish()
    adopt(scene, 1, listed("south"), silo="south")
    scene.now += timedelta(days=5)  # and so does a new snapshot
    scene.repository.upload(scene.store)
    assert set(scene.trust.catalog().generators) == set(scene.newcomer().catalog().generators) == {"north", "south"}


def test_what_leaves_the_catalog_is_listed_no_more(scene: Scene) -> None:
    adopt(scene, 1, listed(number=1), listed(number=2))
    adopt(scene, 2, listed(number=2))
    assert set(scene.trust.catalog().generators["north"]) == {listed(number=2).digest}
    adopt(scene, 3)
    assert scene.trust.catalog().generators["north"] == {}


# what the coordinator refuses to adopt


def refused(scene: Scene, data: bytes, words: str, silo: str = "north") -> None:
    before = scene.repository._snapshot().signed.version
    with pytest.raises(InvalidArtifact, match=words):
        scene.repository.adopt(silo, data)
    assert scene.repository._snapshot().signed.version == before


def test_a_catalog_signed_by_another_is_not_adopted(scene: Scene) -> None:
    for thief in ("south", "coordinator"):
        refused(scene, catalog(scene, 1, listed(), key=scene.people[thief].signing), "not signed")


def test_a_catalog_that_lists_another_silo_s_generators_is_not_adopted(scene: Scene) -> None:
    refused(scene, catalog(scene, 1, listed("south")), "its own silo")


def test_an_older_catalog_is_not_adopted_and_the_same_again_does_nothing(scene: Scene) -> None:
    first, second = catalog(scene, 1, listed()), catalog(scene, 2, listed(), listed(number=2))
    scene.repository.adopt("north", second)
    refused(scene, first, "is in force")
    refused(scene, catalog(scene, 2, listed()), "is in force")
    before = scene.repository._snapshot().signed.version
    scene.repository.adopt("north", second)
    assert scene.repository._snapshot().signed.version == before


def test_litter_and_monsters_are_not_adopted(scene: Scene) -> None:
    entry = listed()
    passing_on = make_catalog(1, [entry], scene.now + timedelta(days=1))
    passing_on.signed.delegations = Delegations({}, {})
    eternal = make_catalog(1, [entry], scene.now + timedelta(days=4000))
    renamed = replace(entry, digest=digest(b"another"))
    key = scene.people["north"].signing
    refused(scene, b"litter", "JSON")
    refused(scene, b"[" * 100_000, "deeper")
    refused(scene, b"[" * 3_000_000, "more than")
    refused(scene, b" " * 4_000_001, "exceeds")
    refused(scene, scene.object("timestamp.json"), "another kind")
    refused(scene, signed(passing_on, key), "passes its rights on")
    refused(scene, signed(eternal, key), "out of bounds")
    refused(scene, catalog(scene, 1, renamed), "another's name")
    refused(scene, catalog(scene, 1, replace(entry, length=1 << 40)), "possible length")


def test_a_catalog_of_somebody_who_left_is_not_adopted(scene: Scene) -> None:
    data = catalog(scene, 1, listed("south"), silo="south")
    scene.people.pop("south")
    scene.publish()
    refused(scene, data, "not signed", silo="south")


# attacks by whoever holds the store, the coordinator's keys or a silo's


def test_an_old_catalog_under_a_new_name_is_refused_and_the_others_are_read(scene: Scene) -> None:
    adopt(scene, 1, listed("south"), silo="south")
    adopt(scene, 1, listed())
    adopt(scene, 2, listed(), listed(number=2))
    scene.put("2.north.json", scene.object("1.north.json"))
    found = scene.trust.catalog()
    assert set(found.generators) == {"south"}
    assert "north" in found.faults
    scene.store.objects.pop(f"{FED}/trust/2.north.json")
    assert "not in the store" in scene.trust.catalog().faults["north"]
    scene.put("2.north.json", b"x" * 6_000_000)
    assert set(scene.trust.catalog().faults) == {"north"}


def test_a_stolen_coordinator_rolls_no_catalog_back(scene: Scene) -> None:
    adopt(scene, 1, listed())
    adopt(scene, 2)  # the generator was withdrawn
    scene.trust.catalog()
    old: Metadata[Snapshot] = make_snapshot(9, 1, scene.now, {"north.json": scene.repository._catalogs()["north.json"]})
    old.signed.meta["north.json"].version = 1
    data = signed(old, scene.online)
    scene.put("9.snapshot.json", data)
    scene.put("timestamp.json", signed(make_timestamp(99, data, 9, scene.now), scene.online))
    with pytest.raises(TrustError, match="refused"):
        scene.trust.catalog()


def test_a_stolen_coordinator_publishes_in_no_silo_s_name(scene: Scene) -> None:
    scene.put("1.north.json", catalog(scene, 1, listed(), key=scene.online))
    scene.forge_snapshot(scene.online, 1, version=2, members=("north",))
    found = scene.trust.catalog()
    assert found.generators == {}
    assert "signed by 0/1" in found.faults["north"]


def test_a_silo_that_lists_another_s_generators_is_refused_by_readers_too(scene: Scene) -> None:
    scene.put("1.north.json", catalog(scene, 1, listed("south")))
    scene.forge_snapshot(scene.online, 1, version=2, members=("north",))
    found = scene.trust.catalog()
    assert found.generators == {}
    assert "its own silo" in found.faults["north"]


def test_a_retired_silo_s_generators_are_listed_no_more_and_its_successor_goes_on_counting(scene: Scene) -> None:
    adopt(scene, 5, listed("south"), silo="south")
    scene.trust.catalog()
    scene.people.pop("south")
    scene.publish()
    assert scene.trust.catalog().generators == {}
    scene.people["south"] = Identity.create(scene.folder / "south-2", "south")
    scene.publish()
    assert "signed by 0/1" in scene.trust.catalog().faults["south"]
    refused(scene, catalog(scene, 1, listed("south"), silo="south"), "is in force", silo="south")
    adopt(scene, 6, listed("south", 2), silo="south")
    assert set(scene.trust.catalog().generators["south"]) == {listed("south", 2).digest}


def test_a_catalog_is_signed_anew_after_its_silo_changed_its_key(scene: Scene) -> None:
    adopt(scene, 1, listed())
    scene.people["north"] = Identity.create(scene.folder / "north-2", "north")
    scene.publish()
    assert "signed by 0/1" in scene.trust.catalog().faults["north"]
    adopt(scene, 2, listed())
    assert set(scene.trust.catalog().generators) == {"north"}


def test_an_expired_catalog_is_refused_alone(scene: Scene) -> None:
    adopt(scene, 1, listed("south"), silo="south")
    scene.now += timedelta(days=300)
    scene.publish()
    adopt(scene, 1, listed())
    scene.now += timedelta(days=64)
    scene.publish(holders=scene.holders)
    found = scene.trust.catalog()
    assert set(found.generators) == {"north", "south"}
    scene.now += timedelta(days=2)
    scene.repository.upload(scene.store)
    found = scene.trust.catalog()
    assert set(found.generators) == {"north"}
    assert "expired" in found.faults["south"]


# crashes


@pytest.mark.parametrize("place", ["_sign_snapshot", "_sign_timestamp"])
def test_a_coordinator_that_dies_while_it_adopts_shows_the_old_or_the_new(
    scene: Scene, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    adopt(scene, 1, listed())
    second = catalog(scene, 2, listed(), listed(number=2))
    with monkeypatch.context() as patch:
        patch.setattr(scene.repository, place, die)
        with pytest.raises(Died):
            scene.repository.adopt("north", second)
    scene.repository = Repository(scene.folder / "repository", FED, lambda: scene.now)
    scene.repository.upload(scene.store)
    assert len(scene.trust.catalog().generators["north"]) == 1
    third = catalog(scene, 2, listed(number=3))  # it signs something else under that number meanwhile
    scene.repository.adopt("north", third)
    scene.repository.upload(scene.store)
    assert set(scene.trust.catalog().generators["north"]) == {listed(number=3).digest}


def test_targets_signed_as_a_catalog_are_bytes_that_tuf_reads(scene: Scene) -> None:
    found: Metadata[Targets] = Metadata.from_bytes(catalog(scene, 1, listed()))
    assert found.to_bytes() == catalog(scene, 1, listed())
