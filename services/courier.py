"""The one door: what leaves is checked, sealed and recorded before it leaves; what arrives is verified, then opened.

Sending, in order: the policy's guard; sealing under the next sequence number; one transaction that finishes the
step and fills the outbox; body, manifest and notices; marked sent. A crash anywhere repeats only what repeats
harmlessly: object names are content hashes and a finished step is never computed again.

Receiving, in order: a notice or a listing names a manifest; digest, sender, signature; place in the sender's chain;
whether it is for us, alive, and of a run that goes on; only then the body, under its signed length, decrypted into
the run's private folder; recorded. Whatever is wrong is quarantined with its reason and the queue goes on. What
cannot be judged now (the store or the trust is unreachable) waits.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog

from services.artifact import MAX_ARTIFACT_BYTES, MAX_MANIFEST_BYTES, Header, digest
from services.bus import BusError, EventBus, Notice
from services.chain import AUDIT, Chain
from services.contract import Message
from services.errors import InvalidArtifact, PolicyRefusal, SilokitError, StateError, StoreError
from services.files import TEMPORARY, private_folder
from services.keys import Identity, SealingKey, SealTo
from services.seal import Manifest, open_sealed, read_manifest, seal, verify
from services.state import LIVE, State, now_text
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge
from services.trust import Trust

OUTLIVING = ("run.done", "product.")
"""Kinds that are still taken after their run has ended here."""
CONTROL = "run."
"""How the kinds begin that may speak of a run before its offer was read; they are small."""
MAX_CONTROL_BYTES = 2 << 20
_TRIES = 5  # until an object that cannot be had waits for the next listing
_BATCH = 100  # arrivals judged in one go, the newest first: a flood of litter delays little else
_NAME = r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
_MANIFEST_KEY = re.compile(rf"{_NAME}/{_NAME}/{_NAME}/([0-9a-f]{{64}})\.manifest")
_log = structlog.get_logger()

Outcome = Literal["accepted", "skipped", "duplicate", "own", "absent", "quarantined"]
Guard = Callable[[str, Message, Sequence[str]], str]
"""Called as `guard(run, message, recipients)` before anything is sealed; returns the version of the policy that allows
it, for the audit log, or raises PolicyRefusal."""


class Equivocation(InvalidArtifact):
    """A sender said two different things in one place of its chain."""


class RunOver(SilokitError):
    """The run ended here while something was made for it: it does not leave."""


@dataclass(frozen=True)
class Door:
    """What a courier stands between: this party's identity and the federation's store, bus and trust."""

    federation: str
    identity: Identity
    store: ObjectStore
    bus: EventBus
    trust: Trust


class Courier:
    """Carries artifacts for one party; safe to call from the worker's and the wire's thread.

    Args:
        state: the party's state, held for writing.
        door: identity, store, bus and trust.
        run_key: returns this party's private key of a run, or None when it does not exist (any more).
        guard: the party's policy.
        clock: the present, for tests that move it.
    """

    def __init__(
        self,
        state: State,
        door: Door,
        run_key: Callable[[str], SealingKey | None],
        guard: Guard,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._state = state
        self._door = door
        self._run_key = run_key
        self._guard = guard
        self._clock = clock
        self._sending = threading.Lock()
        self._audit = Chain(state, AUDIT)
        self._outbox = private_folder(state.folder / "outbox")
        self.me = door.identity.name
        self._remove_orphans()

    # sending

    def send(
        self,
        run: str,
        step: str,
        message: Message,
        recipients: Mapping[str, SealTo],
        *,
        expires: datetime,
        seconds: float = 0.0,
        schema_hash: str | None = None,
    ) -> None:
        """Seal a step's message into the outbox; does nothing when the step was finished before.

        Args:
            run: the run's identifier.
            step: the step's name, finished by this.
            message: kind, payload and release.
            recipients: names and the keys to seal to.
            expires: the end of the artifact's life.
            seconds: how long the step took to compute.
            schema_hash: the hash of the run specification.

        Raises:
            PolicyRefusal: the guard forbids it; nothing was sealed.
            RunOver: the run ended here meanwhile; nothing leaves.
        """
        with self._sending:
            if self._state.finished(run, step):
                return
            now = self._clock()
            policy = self._allowed(run, message, sorted(recipients), now)
            last = self._state.row(
                "SELECT sequence, digest FROM outbox WHERE run=? ORDER BY sequence DESC LIMIT 1", run
            )
            header = Header(
                federation=self._door.federation,
                run=run,
                sender=self.me,
                kind=message.kind,
                sequence=last["sequence"] + 1 if last else 1,
                previous=last["digest"] if last else None,
                created=now,
                expires=expires,
                recipients=tuple(sorted(key.key_id for key in recipients.values())),
                schema_hash=schema_hash,
                heads={AUDIT: self._audit.head},
                release=message.release,
            )
            body = self._outbox / f"{secrets.token_hex(16)}.body"
            manifest = seal(message.payload, header, list(recipients.values()), self._door.identity.signing, body)
            size = body.stat().st_size
            try:
                with self._state.transaction():
                    self._check_goes_on(header)
                    self._state.write(
                        "INSERT INTO outbox VALUES (?,?,?,?,?,?,?,?,?,NULL)",
                        *(run, header.sequence, digest(manifest), message.kind, " ".join(sorted(recipients))),
                        *(body.name, size, manifest, now_text(now)),
                    )
                    self._state.finish(run, step, now, seconds)
                    self._audit.append(
                        "sealed", now, run=run, kind=message.kind, to=sorted(recipients), manifest=digest(manifest),
                        release=message.release.release, policy=policy,
                    )  # fmt: skip
            except BaseException:
                body.unlink(missing_ok=True)
                raise
        _log.info("sealed", run=run, kind=message.kind, to=sorted(recipients), bytes=size)

    def _check_goes_on(self, header: Header) -> None:
        if not header.kind.startswith(CONTROL) and self._is_over(header):
            raise RunOver(f"run {header.run} ended before its {header.kind} could leave")

    def _allowed(self, run: str, message: Message, to: list[str], now: datetime) -> str:
        try:
            return self._guard(run, message, tuple(to))
        except PolicyRefusal as error:
            self._audit.append("withheld", now, run=run, kind=message.kind, to=to, reason=error.what)
            raise

    def deliver(self) -> int:
        """Put and announce what the outbox holds, oldest first; returns how many artifacts were sent.

        Raises:
            StoreError: the rest waits in the outbox; call again later.
            BusError: so does what nobody could be told of; the rest was sent all the same.
        """
        trouble: BusError | None = None
        unsent = self._state.rows("SELECT * FROM outbox WHERE sent IS NULL ORDER BY sealed, run, sequence")
        for row in unsent:
            body = self._outbox / row["body"]
            parsed = read_manifest(row["manifest"])
            folder = f"{self._door.federation}/{self.me}/{row['run']}"
            self._door.store.put(f"{folder}/{parsed.body_sha256}.body", body)
            key = f"{folder}/{row['digest']}.manifest"
            self._door.store.put(key, row["manifest"])
            try:
                for recipient in row["recipients"].split():
                    self._door.bus.announce(recipient, Notice(key))
            except BusError as error:  # one party that cannot be reached must not hold up the others
                trouble = error
                continue
            self._state.write(
                "UPDATE outbox SET sent=? WHERE run=? AND sequence=?",
                now_text(self._clock()), row["run"], row["sequence"],
            )  # fmt: skip
            body.unlink(missing_ok=True)
            _log.info("sent", run=row["run"], kind=row["kind"], to=row["recipients"].split(), bytes=row["bytes"])
        if trouble is not None:
            raise trouble
        return len(unsent)

    # receiving

    def hear(self) -> int:
        """Write the bus's notices into the state file and acknowledge them; returns how many there were.

        Raises:
            BusError: the bus does not answer.
        """
        notices = self._door.bus.consume()
        for notice in notices:
            self._note(notice.object)
            self._door.bus.acknowledge(notice)
        return len(notices)

    def reconcile(self) -> None:
        """List the federation's manifests, so that a lost notice changes nothing.

        Raises:
            StoreError: the store does not answer.
        """
        for key in self._door.store.list(f"{self._door.federation}/"):
            if key.endswith(".manifest"):
                self._note(key)
                self._state.write("UPDATE arrivals SET outcome=NULL WHERE object=? AND outcome='absent'", key)

    def accept(self) -> int:
        """Judge arrivals that have no outcome yet; returns how many artifacts were accepted.

        Raises:
            StoreError, TrustError: cannot be judged now; what was not judged waits.
        """
        accepted = 0
        for row in self._state.rows(
            "SELECT object, attempts FROM arrivals WHERE outcome IS NULL "
            "ORDER BY attempts, arrived DESC, object LIMIT ?",
            _BATCH,
        ):
            outcome = self._judge(row["object"], row["attempts"])
            accepted += outcome == "accepted"
        return accepted

    def check_own_past(self) -> None:
        """Refuse to go on when the store holds artifacts that this identity signed and this state does not know.

        Raises:
            StateError: the state is an old copy, or two agents share one identity.
        """
        known = {row["digest"] for row in self._state.rows("SELECT digest FROM outbox")}
        for key in self._door.store.list(f"{self._door.federation}/{self.me}/"):
            match = _MANIFEST_KEY.fullmatch(key)
            if not match or match[4] in known:
                continue
            try:
                verify(self._door.store.read(key, MAX_MANIFEST_BYTES), self._door.identity.signing.public)
            except (InvalidArtifact, ObjectTooLarge, ObjectAbsent):
                continue  # a stranger's litter under our prefix is no proof of anything
            raise StateError(
                f"the store holds an artifact of run {match[3]} that {self.me} signed and this state does not know",
                fix="restore the newest state, or stop the other agent that uses these keys and enrol anew",
                kept="everything: nothing was sent or changed",
            )

    def _note(self, key: str) -> None:
        self._state.write(
            "INSERT OR IGNORE INTO arrivals (object, arrived) VALUES (?,?)", key[:512], now_text(self._clock())
        )

    def _judge(self, key: str, attempts: int) -> Outcome | None:
        outcome: Outcome
        try:
            outcome = self._open(key)
        except (InvalidArtifact, ObjectTooLarge) as error:
            return self._set_aside(key, error.what, alarm=isinstance(error, Equivocation))
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
            return self._set_aside(key, f"it cannot be judged ({type(error).__name__})")
        self._state.write("UPDATE arrivals SET outcome=? WHERE object=?", outcome, key)
        return outcome

    def _set_aside(self, key: str, reason: str, *, alarm: bool = False) -> Outcome:
        _log.warning("quarantined", object=key, reason=reason, alarm=alarm)
        with self._state.transaction():
            self._state.quarantine(key, reason, self._clock(), alarm=alarm)
            self._audit.append("quarantined", self._clock(), manifest=key, reason=reason, alarm=alarm)
            self._state.write("UPDATE arrivals SET outcome='quarantined' WHERE object=?", key)
        return "quarantined"

    def _open(self, key: str) -> Outcome:
        match = _MANIFEST_KEY.fullmatch(key)
        if not match or match[1] != self._door.federation:
            raise InvalidArtifact("the notice names no manifest of this federation")
        sender, run, name = match[2], match[3], match[4]
        if sender == self.me:
            return "own"
        data = self._door.store.read(key, MAX_MANIFEST_BYTES)
        if digest(data) != name:
            raise InvalidArtifact("the manifest is not what its name promises")
        manifest = verify(data, self._door.trust.verify_key(sender))
        header = manifest.header
        if (header.federation, header.sender, header.run) != (self._door.federation, sender, run):
            raise InvalidArtifact("the manifest was signed for another place (federation, sender or run)")
        if (known := self._place(header, manifest.digest)) is not None:
            return known
        return self._take(manifest, f"{self._door.federation}/{sender}/{run}/{manifest.body_sha256}.body")

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

    def _take(self, manifest: Manifest, body_key: str) -> Outcome:
        """Fetch and open what is for us; record its place in the chain whatever becomes of it."""
        header = manifest.header
        keys = self._keys_for(header)
        if not keys or self._is_over(header):
            self._record(manifest, None, "skipped")
            return "skipped"
        body = self._outbox.parent / f"{secrets.token_hex(16)}.incoming"
        try:
            self._check_life(manifest)
            self._door.store.get(body_key, body, manifest.body_length)
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
        control = header.kind.startswith(CONTROL)
        if run is None and not control:
            raise InvalidArtifact("the artifact is of a run that was never offered here")
        if run and header.schema_hash != digest(run["spec"].encode()):
            raise InvalidArtifact("the artifact was made for another run specification")
        if manifest.body_length > (MAX_CONTROL_BYTES if control else MAX_ARTIFACT_BYTES):
            raise InvalidArtifact(f"the body is too long: {manifest.body_length} bytes of {header.kind}")

    def _keys_for(self, header: Header) -> list[SealingKey]:
        mine = [self._door.identity.sealing, self._run_key(header.run)]
        return [key for key in mine if key is not None and key.public.key_id in header.recipients]

    def _is_over(self, header: Header) -> bool:
        run = self._state.row("SELECT phase FROM runs WHERE run=?", header.run)
        return run is not None and run["phase"] not in LIVE and not header.kind.startswith(OUTLIVING)

    def _record(self, manifest: Manifest, path: Path | None, state: str) -> None:
        header = manifest.header
        self._state.write(
            "INSERT INTO inbox (sender, run, sequence, digest, previous, kind, path, state, received) "
            "VALUES (?,?,?,?,?,?,?,?,?)",
            *(header.sender, header.run, header.sequence, manifest.digest, header.previous, header.kind),
            *(str(path) if path else None, state, now_text(self._clock())),
        )

    # housekeeping

    def close(self) -> None:
        """Let go of the bus."""
        self._door.bus.close()

    def _path(self, header: Header) -> Path:
        if header.kind.startswith(OUTLIVING):  # the run's folder may be gone already
            return private_folder(self._state.folder / "late") / f"{header.run}.{header.sender}.{header.sequence}"
        return private_folder(self._state.folder / "runs" / header.run / "inbox") / f"{header.sender}-{header.sequence}"

    def purge(self, run: str) -> int:
        """Delete everything that this party published for a run; returns how many objects there were.

        Raises:
            StoreError: the store does not answer.
        """
        return self._door.store.delete(f"{self._door.federation}/{self.me}/{run}/")

    def owes(self, run: str) -> bool:
        """Whether something that derives from data was sealed for a run and has not been sent yet."""
        rows = self._state.rows("SELECT kind FROM outbox WHERE run=? AND sent IS NULL", run)
        return any(not row["kind"].startswith(CONTROL) for row in rows)

    def _remove_orphans(self) -> None:
        folder = self._state.folder
        wanted = {self._outbox / row["body"] for row in self._state.rows("SELECT body FROM outbox WHERE sent IS NULL")}
        wanted |= {Path(row["path"]) for row in self._state.rows("SELECT path FROM inbox WHERE state='ready'")}
        late, halves = folder.glob("late/*"), folder.glob(f"{TEMPORARY}*")
        for path in [*self._outbox.iterdir(), *late, *halves, *folder.glob("*.incoming")]:
            if path not in wanted:
                path.unlink(missing_ok=True)
