"""The trust repository as the coordinator keeps it: the master copy on its disk, and what the store shows of it.

Rules:
- What is published is on the disk first, so that a crash publishes the same bytes again and never two of one version.
- The timestamp is written last: until then nobody sees what it leads to.
- The command line and the running service share the folder under a lock.
- A folder that was restored from an old backup is noticed: the store knows versions that it does not.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from coordinator.trust.draft import Draft
from coordinator.trust.metadata import (
    SNAPSHOT_LIFE,
    TIMESTAMP_EVERY,
    TIMESTAMP_LIFE,
    make_snapshot,
    make_timestamp,
    signed,
)
from services.errors import TrustError
from services.files import TEMPORARY, private_folder, write_atomic
from services.keys import SigningKey, load_signing, save_private
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge
from services.trust import FOLDER, ROSTER, Roster

_TIMESTAMP = "timestamp.json"
_LIMIT = 5_000_000
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
            TrustError: they have not yet.
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
        return Roster.model_validate_json((self._public / _roster_name(self.targets)).read_bytes())

    # the online key: one file per key, and the root says which of them is in force

    def draw_online(self) -> SigningKey:
        """A new online key, which signs once a root names it."""
        key = SigningKey.generate()
        save_private(self._online / f"{key.public.key_id[:16]}.key", key)
        return key

    @cached_property
    def _online(self) -> Path:
        return private_folder(self._folder / "online")

    def _online_key(self, root: Root) -> SigningKey:
        (key_id,) = root.roles["timestamp"].keyids
        path = self._online / f"{key_id[:16]}.key"
        if not path.exists():
            raise TrustError(
                "the coordinator does not hold the online key that the root names",
                fix="restore this folder from its newest backup, or have the keyholders sign a new key: "
                "`coordinator rotate`",
            )
        return load_signing(path)

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
        self._keep(_roster_name(targets.signed), draft.roster.encode())
        self._keep(f"{targets.signed.version}.targets.json", targets.to_bytes())
        self._sign_snapshot(targets.signed.version)
        self._pending.unlink()

    def _sign_snapshot(self, targets_version: int) -> None:
        key = self._online_key(self.root.signed)
        version = max((int(path.name.split(".")[0]) for path in self._public.glob("*.snapshot.json")), default=0) + 1
        data = signed(make_snapshot(version, targets_version, self._clock()), key)
        self._keep(f"{version}.snapshot.json", data)
        self._sign_timestamp(data, version)

    def _sign_timestamp(self, snapshot: bytes, version: int, above: int = 0) -> None:
        number = max(above, self._timestamp().version if self.founded else 0) + 1
        timestamp = make_timestamp(number, snapshot, version, self._clock())
        self._keep(_TIMESTAMP, signed(timestamp, self._online_key(self.root.signed)))

    def _keep(self, name: str, data: bytes) -> None:
        write_atomic(self._public / name, data)

    # showing

    def upload(self, store: ObjectStore) -> None:
        """Renew the timestamp when it is time, and put into the store what it lacks; call it often.

        Raises:
            StoreError: the store does not answer; call again.
            TrustError: the store knows more than this folder, or something else under the same name.
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
            raise _behind("a newer snapshot")
        return int(found.signed.version)

    def _names(self) -> list[str]:
        """What the timestamp leads to, in the order in which it must appear."""
        snapshot, targets = self._snapshot().signed.version, self._targets().signed
        roots = [path.name for path in self._roots()]
        return [_roster_name(targets), f"{targets.version}.targets.json", f"{snapshot}.snapshot.json", *roots]

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
            raise TrustError(
                "the keyholders have not signed the founding of this federation yet",
                fix="`coordinator sign DRAFT --key KEY`, then `coordinator publish DRAFT`",
            )
        return found

    def _timestamp(self) -> Timestamp:
        return Metadata[Timestamp].from_bytes((self._public / _TIMESTAMP).read_bytes()).signed

    def _snapshot(self) -> Metadata[Snapshot]:
        version = self._timestamp().snapshot_meta.version
        return Metadata[Snapshot].from_bytes((self._public / f"{version}.snapshot.json").read_bytes())

    def _targets(self) -> Metadata[Targets]:
        self._roots()
        version = self._snapshot().signed.meta["targets.json"].version
        return Metadata[Targets].from_bytes((self._public / f"{version}.targets.json").read_bytes())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _roster_name(targets: Any) -> str:
    data = targets.targets[ROSTER]
    return f"targets/{data.hashes['sha256']}.{ROSTER}"


def _behind(what: str) -> TrustError:
    return TrustError(
        f"the store holds {what} than this coordinator's folder",
        fix="if this folder was restored from an old backup, restore the newest one",
        kept="the store stays as it is",
    )
