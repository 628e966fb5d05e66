"""The trust repository as the coordinator keeps it: the master copy on its disk, and what the store shows of it.

Rules:
- What is published is on the disk first, so that a crash publishes the same bytes again and never two of one version.
- The timestamp is written last: until then nobody sees what it leads to.
- The command line and the running service share the folder under a lock.
- A snapshot never forgets a silo's catalog, also when the silo has left: clients refuse one that knows less.
- A folder that was restored from an old backup is noticed: the store knows versions that it does not.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from coordinator.trust.catalogs import judge_catalog
from coordinator.trust.draft import Draft
from coordinator.trust.metadata import (
    SNAPSHOT_LIFE,
    TIMESTAMP_EVERY,
    TIMESTAMP_LIFE,
    make_snapshot,
    make_timestamp,
    roster_name,
    signed,
)
from coordinator.trust.online import OnlineKeys
from services.errors import InvalidArtifact, NotYet, StateError, TrustError
from services.files import TEMPORARY, private_folder, write_atomic
from services.keys import SigningKey
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge
from services.trust import FOLDER, Roster

_TIMESTAMP = "timestamp.json"
_LIMIT = 5_000_000
_RESTORE = "if this folder was restored from an old backup, restore the newest one"
_log = structlog.get_logger()


class Repository:
    """The federation's trust repository.

    Args:
        folder: the coordinator's private folder for it.
        federation: whose it is.
        clock: the present.
    """

    def __init__(self, folder: Path, federation: str, clock: Callable[[], datetime]) -> None:
        self._folder = private_folder(folder)
        self._online = OnlineKeys(folder / "online")
        self._public = folder / "public"
        self._pending = folder / "pending.json"
        self._federation = federation
        self._clock = clock
        self._shown: set[str] = set()  # what this process has seen in the store
        self._last: bytes | None = None  # the timestamp that it put there
        with self._locked():
            for half_written in self._folder.rglob(f"{TEMPORARY}*"):  # a crash left it
                half_written.unlink(missing_ok=True)
            self._finish()

    # what is in force

    @property
    def founded(self) -> bool:
        """Whether anything was published."""
        return (self._public / _TIMESTAMP).exists()

    def require_founded(self) -> None:
        """Go on only when the keyholders have signed the founding.

        Raises:
            NotYet: they have not.
        """
        self._roots()

    @property
    def root_bytes(self) -> bytes:
        """The root in force, as it is published.

        Raises:
            TrustError: nothing was published yet.
        """
        return self._roots()[-1].read_bytes()

    @property
    def root(self) -> Metadata[Root]:
        """The root in force.

        Raises:
            TrustError: nothing was published yet.
        """
        return Metadata[Root].from_bytes(self.root_bytes)

    @property
    def targets(self) -> Targets:
        """The targets in force.

        Raises:
            TrustError: nothing was published yet.
        """
        return self._targets().signed

    @property
    def roster(self) -> Roster:
        """The roster in force.

        Raises:
            TrustError: nothing was published yet.
        """
        return Roster.model_validate_json((self._public / roster_name(self.targets)).read_bytes())

    def draw_online(self) -> SigningKey:
        """A new online key, which signs once a root names it."""
        return self._online.draw()

    # publishing

    def publish(self, draft: Draft) -> None:
        """Bring a draft in force on the disk; `upload` shows it.

        Raises:
            TrustError: it lacks signatures, or does not follow what is in force.
        """
        if lacking := draft.lacks():
            raise TrustError(
                f"{lacking} more keyholders must sign this draft", fix="`coordinator sign DRAFT --key KEY`",
                kept="what is in force stays so",
            )  # fmt: skip
        with self._locked():
            now = self._targets().signed.version if self.founded else 0
            before = self.root.to_dict() if self.founded else None
            after = draft.new_targets.signed.version
            if after != now + 1 or draft.before != before:
                raise TrustError(
                    f"the draft leads to version {after} of the trust, and version {now} is in force",
                    fix="somebody published meanwhile: make the change again and have that draft signed",
                    kept="what is in force stays so",
                )
            draft.write(self._pending)  # from here on a crash does not undo it
            self._finish()

    def _finish(self) -> None:
        """Bring the pending draft in force, if there is one; repeats harmlessly."""
        if not self._pending.exists():
            return
        draft = Draft.read(self._pending)
        root, targets = draft.new_root, draft.new_targets
        if root is not None:
            self._keep(f"{root.signed.version}.root.json", root.to_bytes())
        self._keep(roster_name(targets.signed), draft.roster.encode())
        self._keep(f"{targets.signed.version}.targets.json", targets.to_bytes())
        self._sign_snapshot(targets.signed.version)
        self._pending.unlink()

    def adopt(self, silo: str, data: bytes) -> None:
        """Bring a silo's own catalog in force on the disk; `upload` shows it. The one in force again does nothing.

        Raises:
            InvalidArtifact: it is not the silo's, not newer than the one in force, or no member would believe it.
        """
        with self._locked():
            self._finish()
            targets, name = self._targets().signed, f"{silo}.json"
            version = judge_catalog(data, silo, targets, self._clock())
            known = self._catalogs().get(name)
            if known is not None and version <= known.version:
                if (self._public / f"{known.version}.{name}").read_bytes() == data:
                    return
                raise InvalidArtifact(f"version {known.version} of the catalog is in force, and this is {version}")
            self._keep(f"{version}.{name}", data)
            self._sign_snapshot(targets.version, {name: MetaFile.from_data(version, data, ["sha256"])})
        _log.info("catalog adopted", silo=silo, version=version)

    def _sign_snapshot(self, targets_version: int, news: Mapping[str, MetaFile] = MappingProxyType({})) -> None:
        key = self._online.of(self.root.signed)
        catalogs = {**self._catalogs(), **news}
        version = max((int(path.name.split(".")[0]) for path in self._public.glob("*.snapshot.json")), default=0) + 1
        data = signed(make_snapshot(version, targets_version, self._clock(), catalogs), key)
        self._keep(f"{version}.snapshot.json", data)
        self._sign_timestamp(data, version)

    def _sign_timestamp(self, snapshot: bytes, version: int, above: int = 0) -> None:
        number = max(above, self._timestamp().version if self.founded else 0) + 1
        timestamp = make_timestamp(number, snapshot, version, self._clock())
        self._keep(_TIMESTAMP, signed(timestamp, self._online.of(self.root.signed)))

    def _keep(self, name: str, data: bytes) -> None:
        write_atomic(self._public / name, data)

    # showing

    def upload(self, store: ObjectStore) -> None:
        """Renew the timestamp when it is time, and put into the store what it lacks; call it often.

        Raises:
            StoreError: the store does not answer; call again.
            StateError: this folder is an old copy: the store holds a newer snapshot that its key signed.
            TrustError: the store holds something else under the same name.
        """
        with self._locked():
            self._finish()
            self._renew(0 if self._last else self._seen_before(store))
            stamp = (self._public / _TIMESTAMP).read_bytes()
            if stamp == self._last:
                return
            for name in self._names():
                self._show(store, name)
            store.replace(self._key(_TIMESTAMP), stamp)
            self._last = stamp

    def _renew(self, seen: int) -> None:
        now, stamp = self._clock(), self._timestamp()
        snapshot = self._snapshot()
        # what lives longer than it may was signed by a clock that was ahead
        if not SNAPSHOT_LIFE / 2 < snapshot.signed.expires - now <= SNAPSHOT_LIFE:
            self._sign_snapshot(self.targets.version)
        elif stamp.version < seen or not TIMESTAMP_LIFE - TIMESTAMP_EVERY < stamp.expires - now <= TIMESTAMP_LIFE:
            data = (self._public / f"{snapshot.signed.version}.snapshot.json").read_bytes()
            self._sign_timestamp(data, snapshot.signed.version, above=seen)

    def _seen_before(self, store: ObjectStore) -> int:
        """The version of the store's timestamp, where our own key signed it."""
        try:
            found = Metadata[Timestamp].from_bytes(store.read(self._key(_TIMESTAMP), _LIMIT))
            self.root.signed.verify_delegate("timestamp", found.signed_bytes, found.signatures)
        except (ObjectAbsent, ObjectTooLarge, RepositoryError, DeserializationError):
            return 0
        if found.signed.snapshot_meta.version > self._snapshot().signed.version:
            # our own key signed it: this is proof, and no trouble that passes
            raise StateError(
                "the store holds a newer snapshot than this coordinator's folder, which is an old copy",
                fix=f"{_RESTORE}; if the online key may have been stolen, `coordinator rotate`",
                kept="the store stays as it is",
            )
        return int(found.signed.version)

    def _names(self) -> list[str]:
        """What the timestamp leads to, in the order in which it must appear."""
        snapshot, targets = self._snapshot().signed.version, self._targets().signed
        roots = [path.name for path in self._roots()]
        catalogs = [f"{meta.version}.{name}" for name, meta in self._catalogs().items()]
        return [roster_name(targets), f"{targets.version}.targets.json", *catalogs, f"{snapshot}.snapshot.json", *roots]

    def _show(self, store: ObjectStore, name: str) -> None:
        if name in self._shown:
            return
        data = (self._public / name).read_bytes()
        if not store.put(self._key(name), data) and store.read(self._key(name), _LIMIT) != data:
            raise _behind(f"another {name}")
        self._shown.add(name)
        _log.info("trust published", object=name)

    def _key(self, name: str) -> str:
        return f"{self._federation}/{FOLDER}/{name}"

    # reading

    def _roots(self) -> list[Path]:
        found = sorted(self._public.glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
        if not found:
            raise NotYet(
                "the keyholders have not signed the founding of this federation yet",
                fix="`coordinator sign DRAFT --key KEY`, then `coordinator publish DRAFT`",
            )
        return found

    def _timestamp(self) -> Timestamp:
        return Metadata[Timestamp].from_bytes((self._public / _TIMESTAMP).read_bytes()).signed

    def _snapshot(self) -> Metadata[Snapshot]:
        version = self._timestamp().snapshot_meta.version
        return Metadata[Snapshot].from_bytes((self._public / f"{version}.snapshot.json").read_bytes())

    def _catalogs(self) -> dict[str, MetaFile]:
        """The catalogs in force, by the names of their files."""
        if not self.founded:
            return {}
        return {name: meta for name, meta in self._snapshot().signed.meta.items() if name != "targets.json"}

    def _targets(self) -> Metadata[Targets]:
        self._roots()
        version = self._snapshot().signed.meta["targets.json"].version
        return Metadata[Targets].from_bytes((self._public / f"{version}.targets.json").read_bytes())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _behind(what: str) -> TrustError:
    return TrustError(
        f"the store holds {what} than this coordinator's folder", fix=_RESTORE, kept="the store stays as it is"
    )
