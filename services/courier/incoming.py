"""The receiving half: what arrives is verified, then opened.

In order: a notice or a listing names a manifest; digest, sender, signature; place in the sender's chain; whether it is
for us, alive, and of a run that goes on; only then the body, under its signed length, decrypted into the run's private
folder; recorded. Whatever is wrong is quarantined with its reason and the queue goes on. What cannot be judged now
(the store or the trust is unreachable) waits.

Whoever may write to store or bus cannot fill this party's disk: a name that is no member's manifest leaves no trace but
a count, few of a sender's names wait at once, what was judged is forgotten when the store has it no longer, and the
audit log tells only of what a member signed. Whatever is dropped here and was genuine, a later listing finds.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import structlog

from services.artifact import MAX_MANIFEST_BYTES, POOL, Header, digest
from services.chain import AUDIT, Chain
from services.courier.door import CONTROL, MANIFEST_KEY, OUTLIVING, Door, Equivocation, is_over, longest
from services.errors import InvalidArtifact, SilokitError, StoreError, TrustError
from services.files import TEMPORARY, private_folder
from services.home import LATE, RUNS
from services.keys import SealingKey
from services.metrics import HEARD, NOTICE_LAG, OPENING, QUARANTINED, transferring
from services.seal import Manifest, open_sealed, verify
from services.state import State, now_text
from services.store import ObjectAbsent, ObjectTooLarge

_TRIES = 5  # until an object that cannot be had waits for the next listing
_WAITING = 1000  # of a sender's names that wait to be judged; the next listing finds the others
_BATCH = 100  # arrivals judged in one go, the newest first: a flood of litter delays little else
_log = structlog.get_logger()

Outcome = Literal["accepted", "skipped", "duplicate", "absent", "quarantined"]
_Cause = Literal["unsigned", "equivocation", "envelope"]


class _Litter(InvalidArtifact):
    """What lies there, no member signed for that place."""


class Incoming:
    """Receives one party's artifacts.

    Args:
        state: the party's state, held for writing.
        door: keys, store, bus and trust.
        run_key: returns this party's private key of a run, or None when it does not exist (any more).
        clock: the present.
    """

    def __init__(
        self, state: State, door: Door, run_key: Callable[[str], SealingKey | None], clock: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._door = door
        self._run_key = run_key
        self._clock = clock
        self._audit = Chain(state, AUDIT)
        self._dropped = 0
        self._announced: set[str] = set()  # names that a notice told, until they are judged
        self._remove_orphans()

    def hear(self) -> int:
        """Write the bus's notices into the state file and acknowledge them; returns how many there were.

        Raises:
            BusError: the bus does not answer.
        """
        notices = self._door.bus.consume()
        if notices:
            with self._state.transaction():  # on disk once for all of them, and before any is acknowledged
                self._announced.update(notice.object for notice in notices if self._note(notice.object))
        for notice in notices:
            self._door.bus.acknowledge(notice)
        return len(notices)

    def reconcile(self) -> None:
        """List the federation's manifests, so that a lost notice changes nothing; generators are no arrivals.

        Raises:
            StoreError: the store does not answer.
        """
        listed = {
            key
            for key in self._door.store.list(f"{self._door.federation}/")
            if key.endswith(".manifest") and f"/{POOL}/" not in key
        }
        known = {row["object"]: row["outcome"] for row in self._state.rows("SELECT object, outcome FROM arrivals")}
        with self._state.transaction():
            for key in sorted(listed - known.keys()):
                self._note(key)
            for key, outcome in known.items():
                if outcome == "absent" and key in listed:
                    self._state.write("UPDATE arrivals SET outcome=NULL WHERE object=?", key)
                elif outcome is not None and key not in listed:
                    self._state.write("DELETE FROM arrivals WHERE object=?", key)

    def accept(self) -> int:
        """Judge arrivals that have no outcome yet; returns how many artifacts were accepted.

        Raises:
            StoreError, TrustError: cannot be judged now; what was not judged waits.
        """
        accepted = 0
        for row in self._state.rows(
            "SELECT object, attempts, arrived FROM arrivals WHERE outcome IS NULL "
            "ORDER BY attempts, arrived DESC, object LIMIT ?",
            _BATCH,
        ):
            outcome = self._judge(row["object"], row["attempts"], datetime.fromisoformat(row["arrived"]))
            if outcome == "accepted":
                accepted += 1
                HEARD.labels("notice" if row["object"] in self._announced else "listing").inc()
            if outcome is not None:
                self._announced.discard(row["object"])
        return accepted

    def _note(self, key: str) -> bool:
        """Write a name down to be judged; returns whether it is new."""
        try:
            members = self._door.trust.roster.members
        except TrustError:
            return False  # nobody can be judged by stale trust: the next listing finds it again
        match = MANIFEST_KEY.fullmatch(key)
        if match and match[3] == POOL:
            return False  # what is in the pool is told by the signed catalog, and pulled by people
        if not match or match[1] != self._door.federation or match[2] not in members:
            self._dropped += 1
            if self._dropped.bit_count() == 1:  # at every doubling: who litters must not fill the log either
                _log.warning("names that are no member's manifest were dropped", so_far=self._dropped)
            return False
        if match[2] == self._door.ring.name or self._waiting(f"{match[1]}/{match[2]}") >= _WAITING:
            return False
        statement = "INSERT OR IGNORE INTO arrivals (object, arrived) VALUES (?,?)"
        return self._state.write(statement, key, now_text(self._clock())) > 0

    def _waiting(self, folder: str) -> int:
        waiting = self._state.rows(
            "SELECT 1 FROM arrivals WHERE outcome IS NULL AND object BETWEEN ? AND ? LIMIT ?",
            *(f"{folder}/", f"{folder}0", _WAITING),  # 0 is what follows the slash
        )
        return len(waiting)

    def _judge(self, key: str, attempts: int, arrived: datetime) -> Outcome | None:
        outcome: Outcome
        try:
            outcome = self._open(key, arrived)
        except (InvalidArtifact, ObjectTooLarge) as error:
            return self._set_aside(key, error.what, _cause(error))
        except StoreError as error:
            self._state.write("UPDATE arrivals SET attempts=attempts+1 WHERE object=?", key)
            if attempts + 1 < _TRIES:
                if isinstance(error, ObjectAbsent):
                    return None
                raise
            outcome = "absent"
        except (SilokitError, OSError, sqlite3.Error, MemoryError):
            raise  # it says nothing of the artifact
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes provoke must not end the wire
            return self._set_aside(key, f"it cannot be judged ({type(error).__name__})", "unsigned")
        self._state.write("UPDATE arrivals SET outcome=? WHERE object=?", outcome, key)
        return outcome

    def _set_aside(self, key: str, reason: str, cause: _Cause) -> Outcome:
        alarm = cause == "equivocation"
        _log.warning("quarantined", object=key, reason=reason, alarm=alarm)
        with self._state.transaction():
            self._state.quarantine(key, reason, self._clock(), alarm=alarm)
            if cause != "unsigned":
                self._audit.append("quarantined", self._clock(), manifest=key, reason=reason, alarm=alarm)
            self._state.write("UPDATE arrivals SET outcome='quarantined' WHERE object=?", key)
        QUARANTINED.labels(cause).inc()
        return "quarantined"

    def _open(self, key: str, arrived: datetime) -> Outcome:
        try:
            manifest = self._read(key, arrived)
        except (InvalidArtifact, ObjectTooLarge) as error:
            raise _Litter(error.what) from error
        if (known := self._place(manifest.header, manifest.digest)) is not None:
            return known
        return self._take(manifest, f"{key.rpartition('/')[0]}/{manifest.body_sha256}.body", arrived)

    def _read(self, key: str, arrived: datetime) -> Manifest:
        """The manifest of that name, as its sender signed it for that name."""
        federation, sender, run, name = key.removesuffix(".manifest").split("/")
        data = self._door.store.read(key, MAX_MANIFEST_BYTES)
        if digest(data) != name:
            raise InvalidArtifact("the manifest is not what its name promises")
        manifest = self._door.trust.verified(sender, arrived, lambda signer: verify(data, signer))
        header = manifest.header
        if (header.federation, header.sender, header.run) != (federation, sender, run):
            raise InvalidArtifact("the manifest was signed for another place (federation, sender or run)")
        return manifest

    def _place(self, header: Header, found: str) -> Outcome | None:
        """Where the artifact stands in its sender's chain: known already, contradicting it, or new (None)."""
        chain = {
            row["sequence"]: row
            for row in self._state.rows(
                "SELECT sequence, digest, previous FROM inbox WHERE sender=? AND run=? AND sequence BETWEEN ? AND ?",
                *(header.sender, header.run, header.sequence - 1, header.sequence + 1),
            )
        }
        if (same := chain.get(header.sequence)) is not None:
            if same["digest"] == found:
                return "duplicate"
            raise Equivocation(f"{header.sender} signed two artifacts as number {header.sequence} of run {header.run}")
        before, after = chain.get(header.sequence - 1), chain.get(header.sequence + 1)
        broken = (header.sequence == 1) != (header.previous is None)
        broken |= before is not None and before["digest"] != header.previous
        broken |= after is not None and after["previous"] != found
        if broken:
            raise Equivocation(f"artifact {header.sequence} of {header.sender} in run {header.run} breaks its chain")
        if before is None and header.previous is not None:
            # a gap, mostly something for others: its name is known, so nobody waits for the next listing
            self._note(f"{header.federation}/{header.sender}/{header.run}/{header.previous}.manifest")
        return None

    def _take(self, manifest: Manifest, body_key: str, arrived: datetime) -> Outcome:
        """Fetch and open what is for us; record its place in the chain whatever becomes of it."""
        header = manifest.header
        keys = self._keys_for(header)
        if not keys or is_over(self._state, header.run, header.kind):
            self._record(manifest, None, "skipped")
            return "skipped"
        body = self._state.folder / f"{secrets.token_hex(16)}.incoming"
        try:
            self._check_life(manifest)
            with transferring("down", manifest.body_length):
                self._door.store.get(body_key, body, manifest.body_length)
            with OPENING.time():
                open_sealed(manifest, body, keys, path := self._path(header))
        except (InvalidArtifact, ObjectTooLarge):
            self._record(manifest, None, "refused")
            raise
        finally:
            body.unlink(missing_ok=True)
        with self._state.transaction():
            self._record(manifest, path, "ready")
            self._audit.append(
                "received", self._clock(), run=header.run, kind=header.kind, sender=header.sender,
                manifest=manifest.digest, release=header.release.release,
            )  # fmt: skip
        NOTICE_LAG.observe(max(0.0, (arrived - header.created).total_seconds()))  # clocks may be off
        _log.info("received", run=header.run, kind=header.kind, sender=header.sender, bytes=manifest.body_length)
        return "accepted"

    def _check_life(self, manifest: Manifest) -> None:
        header = manifest.header
        if not header.live_at(now := self._clock()):
            raise InvalidArtifact(
                f"the artifact lived from {header.created:%Y-%m-%d %H:%M} to {header.expires:%Y-%m-%d %H:%M} UTC, "
                f"which is not now: it is {now:%Y-%m-%d %H:%M} here, unless a clock is wrong"
            )
        run = self._state.row("SELECT spec FROM runs WHERE run=?", header.run)
        if run is None and not header.kind.startswith(CONTROL):
            raise InvalidArtifact("the artifact is of a run that was never offered here")
        if run and header.schema_hash != digest(run["spec"].encode()):
            raise InvalidArtifact("the artifact was made for another run specification")
        if manifest.body_length > longest(header.kind):
            raise InvalidArtifact(f"the body is too long: {manifest.body_length} bytes of {header.kind}")

    def _keys_for(self, header: Header) -> list[SealingKey]:
        mine = [*self._door.ring.openers, self._run_key(header.run)]
        return [key for key in mine if key is not None and key.public.key_id in header.recipients]

    def _record(self, manifest: Manifest, path: Path | None, state: str) -> None:
        header = manifest.header
        self._state.write(
            "INSERT INTO inbox (sender, run, sequence, digest, previous, kind, path, state, received) "
            "VALUES (?,?,?,?,?,?,?,?,?)",
            *(header.sender, header.run, header.sequence, manifest.digest, header.previous, header.kind),
            *(str(path) if path else None, state, now_text(self._clock())),
        )

    def _path(self, header: Header) -> Path:
        known = self._state.row("SELECT 1 FROM runs WHERE run=?", header.run)
        if known is None or header.kind.startswith(OUTLIVING):  # there is no folder of the run yet, or no more
            return private_folder(self._state.folder / LATE) / f"{header.run}.{header.sender}.{header.sequence}"
        return private_folder(self._state.folder / RUNS / header.run / "inbox") / f"{header.sender}-{header.sequence}"

    def _remove_orphans(self) -> None:
        folder = self._state.folder
        wanted = {Path(row["path"]) for row in self._state.rows("SELECT path FROM inbox WHERE state='ready'")}
        for path in [*folder.glob(f"{LATE}/*"), *folder.glob(f"{TEMPORARY}*"), *folder.glob("*.incoming")]:
            if path not in wanted:
                path.unlink(missing_ok=True)


def _cause(error: InvalidArtifact | ObjectTooLarge) -> _Cause:
    if isinstance(error, _Litter):
        return "unsigned"
    return "equivocation" if isinstance(error, Equivocation) else "envelope"
