"""A federation's trust repository in memory, and thieves who rewrite it: for whoever tests what is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from coordinator.trust.draft import Draft
from coordinator.trust.metadata import make_root, make_snapshot, make_targets, make_timestamp, roster_bytes, signed
from coordinator.trust.repository import Repository
from services.keys import Identity, SigningKey
from services.trust import Roster
from services.trust.root import pin
from services.trust.tuf import TufTrust
from tests.world import MemoryStore

FED = "fed"


class Scene:
    """A federation's repository in a store, and a party that believes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.holders = {name: SigningKey.generate() for name in ("anna", "ben", "cleo")}
        self.people = {name: Identity.create(folder / name, name) for name in ("coordinator", "north", "south")}
        self.repository = Repository(folder / "repository", FED, lambda: self.now)
        self.online = self.repository.draw_online()
        self.publish(holders=self.holders)
        pin(folder / "party", self.repository.root_bytes)
        self.trust = self.party()
        self.trust.look()

    def party(self, folder: str = "party") -> TufTrust:
        return TufTrust(FED, self.folder / folder, self.store, lambda: self.now)

    def newcomer(self) -> TufTrust:
        pin(self.folder / "newcomer", self.repository.root_bytes)
        return self.party("newcomer")

    def roster(self, **changes: Any) -> Roster:
        members = {name: one.public for name, one in self.people.items()}
        return Roster(**{"federation": FED, "coordinator": "coordinator", "members": members, **changes})

    def draft(
        self, roster: Roster | None = None, *, days: float = 7, holders: dict[str, SigningKey] | None = None,
        online: SigningKey | None = None,
    ) -> Draft:  # fmt: skip
        """What the keyholders are to sign; with a new root where keys are named."""
        before = self.repository.root if self.repository.founded else None
        root = None
        if holders or online:
            number = before.signed.version + 1 if before else 1
            public = {name: key.public for name, key in (holders or self.holders).items()}
            root = make_root(number, public, 2, (online or self.online).public, self.now)
        version = self.repository.targets.version + 1 if before else 1
        roster = roster or self.roster()
        targets = make_targets(version, roster, self.now + timedelta(days=days))
        return Draft.make(before, root, targets, roster_bytes(roster))

    def publish(
        self, roster: Roster | None = None, *, signers: tuple[str, ...] = ("anna", "ben"), **changes: Any
    ) -> None:
        draft = self.draft(roster, **changes)
        for name in signers:
            draft = draft.sign(self.holders[name])
        self.repository.publish(draft)
        self.repository.upload(self.store)

    def object(self, name: str) -> bytes:
        return self.store.objects[f"{FED}/trust/{name}"]

    def put(self, name: str, data: bytes) -> None:
        self.store.objects[f"{FED}/trust/{name}"] = data

    # what a thief of the online key does

    def forge_snapshot(self, key: SigningKey, targets: int, *, version: int, members: tuple[str, ...] = ()) -> None:
        made: Metadata[Snapshot] = make_snapshot(version, targets, self.now)
        made.signed.meta.update({f"{name}.json": MetaFile(1) for name in members})
        data = signed(made, key)
        self.put(f"{version}.snapshot.json", data)
        before = Metadata[Timestamp].from_bytes(self.object("timestamp.json")).signed.version
        self.put("timestamp.json", signed(make_timestamp(before + 1, data, version, self.now), key))

    def sign_catalog(self, key: SigningKey, name: str, target: str, content: bytes = b"{}") -> None:
        """Publish a member's catalog, signed with some key."""
        catalog = Metadata(Targets(version=1, expires=self.now + timedelta(days=1)))
        catalog.signed.targets[target] = TargetFile.from_data(target, content, ["sha256"])
        self.put(f"1.{name}.json", signed(catalog, key))
        folder, _, base = target.rpartition("/")
        self.put(f"targets/{folder}/{catalog.signed.targets[target].hashes['sha256']}.{base}", content)
