"""A roster is believed when the pinned root signed it, it is alive, and it is not behind what was believed before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.errors import InvalidArtifact, TrustError
from services.keys import Identity, PublicIdentity, SigningKey
from services.state import State
from services.trust import Roster, RosterTrust, newest_roster, roster_key, sign_roster
from tests.world import MemoryStore

FED = "fed"


class Scene:
    """A store with rosters, and a party that believes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.root = SigningKey.generate()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.people: dict[str, PublicIdentity] = {
            name: Identity.create(folder / name, name).public for name in ("coordinator", "north")
        }
        self.state = State(folder / "state")

    def roster(self, version: int, *, days: float = 30, root: SigningKey | None = None, federation: str = FED) -> bytes:
        roster = Roster(
            federation=federation, version=version, created=self.now, expires=self.now + timedelta(days=days),
            coordinator="coordinator", members=self.people,
        )  # fmt: skip
        return sign_roster(roster, root or self.root)

    def publish(self, version: int, data: bytes | None = None) -> None:
        self.store.objects[roster_key(FED, version)] = data or self.roster(version)

    def trust(self) -> RosterTrust:
        return RosterTrust(FED, self.root.public, self.state, self.store, lambda: self.now)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_newest_signed_roster_is_believed_and_remembered(scene: Scene) -> None:
    scene.publish(1)
    scene.publish(2)
    trust = scene.trust()
    trust.refresh()
    assert trust.roster.version == 2
    assert trust.member("north") == scene.people["north"]
    scene.store.objects.clear()
    assert scene.trust().roster.version == 2


def test_without_a_roster_nobody_is_trusted(scene: Scene) -> None:
    trust = scene.trust()
    trust.refresh()
    with pytest.raises(TrustError, match="no roster"):
        trust.member("north")


def test_a_roster_signed_by_another_root_is_refused_and_does_not_hide_the_true_one(scene: Scene) -> None:
    scene.publish(1)
    scene.publish(9, scene.roster(9, root=SigningKey.generate()))
    trust = scene.trust()
    trust.refresh()
    assert trust.roster.version == 1


def test_a_rolled_back_roster_is_refused(scene: Scene) -> None:
    trust = scene.trust()
    trust.believe(scene.roster(5))
    with pytest.raises(TrustError, match="behind"):
        trust.believe(scene.roster(4))
    assert trust.roster.version == 5


def test_another_roster_of_the_same_version_is_refused(scene: Scene) -> None:
    trust = scene.trust()
    trust.believe(scene.roster(5))
    trust.believe(scene.roster(5))
    scene.people.pop("north")
    with pytest.raises(TrustError, match="behind or beside"):
        trust.believe(scene.roster(5))


def test_a_roster_of_another_federation_is_refused(scene: Scene) -> None:
    with pytest.raises(TrustError, match="another federation"):
        scene.trust().believe(scene.roster(1, federation="others"))


def test_an_expired_roster_stops_trust_until_a_new_one_comes(scene: Scene) -> None:
    scene.publish(1)
    trust = scene.trust()
    trust.refresh()
    scene.now += timedelta(days=31)
    with pytest.raises(TrustError, match="expired"):
        trust.verify_key("north")
    with pytest.raises(TrustError, match="expired"):
        scene.trust().believe(scene.store.objects[roster_key(FED, 1)])
    scene.publish(2)
    trust.refresh()
    assert trust.verify_key("north") == scene.people["north"].verify


def test_a_stranger_is_told_from_stale_trust(scene: Scene) -> None:
    scene.publish(1)
    trust = scene.trust()
    trust.refresh()
    with pytest.raises(InvalidArtifact, match="not a member"):
        trust.verify_key("mallory")
    with pytest.raises(TrustError, match="not a member"):
        trust.member("mallory")


def test_a_store_that_is_down_leaves_the_believed_roster_in_force(scene: Scene) -> None:
    scene.publish(1)
    trust = scene.trust()
    trust.refresh()
    scene.store.down = True
    trust.refresh()
    assert trust.roster.version == 1


def test_the_newest_roster_is_found_without_a_state_file(scene: Scene) -> None:
    scene.publish(1)
    scene.publish(2)
    scene.publish(3, b"litter")
    assert newest_roster(scene.store, FED, scene.root.public).version == 2
