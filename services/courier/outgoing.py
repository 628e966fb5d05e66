"""The sending half: what leaves is checked, sealed and recorded before it leaves.

In order: the policy's guard; sealing under the next sequence number; one transaction that finishes the step and fills
the outbox; body, manifest and notices; marked sent. A crash anywhere repeats only what repeats harmlessly: object
names are content hashes and a finished step is never computed again.

When the run was called off meanwhile, the body of what derives from data is destroyed unsent. Its manifest still
leaves, so that the chain stays whole: it holds no data, and without the body there is nothing to open.
"""

from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from services.artifact import POOL, Header, Spend, digest
from services.bus import BusError, Notice
from services.chain import AUDIT, Chain
from services.contract import Message
from services.courier.door import CONTROL, SAFE, Door, Guard, RunOver, called_off, is_over
from services.errors import PolicyRefusal
from services.files import private_folder, write_atomic
from services.home import OUTBOX
from services.keys import SealTo
from services.ledger import LEDGER, Ledger
from services.metrics import SEALING, transferring
from services.seal import read_manifest, seal
from services.state import State, now_text

FOR_GOOD = timedelta(days=3650)
KEPT = Path("pool", "own")
"""Where a party keeps what it published, in its private folder, by the digest of the manifest."""
_log = structlog.get_logger()


class Outgoing:
    """Sends one party's artifacts; safe to call from the worker's and the wire's thread.

    Args:
        state: the party's state, held for writing.
        door: keys, store, bus and trust.
        guard: the party's policy.
        clock: the present.
    """

    def __init__(self, state: State, door: Door, guard: Guard, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._door = door
        self._guard = guard
        self._clock = clock
        self._sending = threading.Lock()
        self._audit = Chain(state, AUDIT)
        self._ledger = Ledger(state)
        self._outbox = private_folder(state.folder / OUTBOX)
        self._kept = state.folder / KEPT
        self._me = door.ring.name
        self._there: set[str] = set()  # whose bodies are in the store, and whose notices could not be sent yet
        self._remove_orphans()

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
        under: str | None = None,
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
            under: the name in the run's place that the artifact is signed for and lies under, where that is not the
                run: `POOL`, whose artifacts are called off with no run once they are sealed.

        Raises:
            PolicyRefusal: the guard forbids it, or the ledger has no reservation for it; nothing leaves.
            RunOver: the run ended here meanwhile; nothing leaves.
        """
        with self._sending:
            if self._state.finished(run, step):
                return
            now, place = self._clock(), under or run
            policy = self._allowed(run, message, sorted(recipients), now)
            last = self._state.row(
                "SELECT sequence, digest FROM outbox WHERE run=? ORDER BY sequence DESC LIMIT 1", place
            )
            header = Header(
                federation=self._door.federation,
                run=place,
                sender=self._me,
                kind=message.kind,
                sequence=last["sequence"] + 1 if last else 1,
                previous=last["digest"] if last else None,
                created=now,
                expires=expires,
                recipients=tuple(sorted(key.key_id for key in recipients.values())),
                schema_hash=schema_hash,
                heads={AUDIT: self._audit.head, LEDGER: self._ledger.head},
                release=message.release,
            )
            body = self._outbox / f"{secrets.token_hex(16)}.body"
            with SEALING.time():
                manifest = seal(message.payload, header, list(recipients.values()), self._door.ring.signing, body)
            size, spend = body.stat().st_size, message.release if isinstance(message.release, Spend) else None
            try:
                if under == POOL and spend:
                    self._keep(message.payload, digest(manifest))
                with self._state.transaction():
                    self._check_goes_on(run, message.kind)
                    if spend:
                        self._ledger.commit(run, step, spend.mechanism, spend.delta, digest(manifest), now)
                    self._state.write(
                        "INSERT INTO outbox VALUES (?,?,?,?,?,?,?,?,?,NULL)",
                        *(place, header.sequence, digest(manifest), message.kind, " ".join(sorted(recipients))),
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

    def publish(
        self, run: str, step: str, message: Message, recipients: Mapping[str, SealTo], *, seconds: float,
        schema_hash: str,
    ) -> None:  # fmt: skip
        """As `send`, for the pool: for good, and the plaintext is kept, so that late members can be given it too."""
        self.send(
            run, step, message, recipients,
            expires=self._clock() + FOR_GOOD, seconds=seconds, schema_hash=schema_hash, under=POOL,
        )  # fmt: skip

    def everybody(self) -> dict[str, SealTo]:
        """Every other member's long-lived encryption key.

        Raises:
            TrustError: the trust is stale.
        """
        members = self._door.trust.roster.members
        return {name: member.seal for name, member in members.items() if name != self._me}

    def _keep(self, payload: Path | bytes, name: str) -> None:
        with payload.open("rb") if isinstance(payload, Path) else io.BytesIO(payload) as content:
            write_atomic(private_folder(self._kept) / name, content.read())

    def _check_goes_on(self, run: str, kind: str) -> None:
        if not kind.startswith(CONTROL) and is_over(self._state, run, kind):
            raise RunOver(f"run {run} ended before its {kind} could leave")

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
            folder = f"{self._door.federation}/{self._me}/{row['run']}"
            withheld = not self._put_body(row, folder, body)
            key = f"{folder}/{row['digest']}.manifest"
            self._door.store.put(key, row["manifest"])
            try:
                for recipient in row["recipients"].split():
                    self._door.bus.announce(recipient, Notice(key))
            except BusError as error:  # one party that cannot be reached must not hold up the others
                trouble = error
                continue
            self._mark_sent(row, withheld=withheld)
            body.unlink(missing_ok=True)
        if trouble is not None:
            raise trouble
        return len(unsent)

    def _put_body(self, row: Any, folder: str, body: Path) -> bool:
        """Put an artifact's body, unless the run was called off before; returns whether it is in the store."""
        key = f"{folder}/{read_manifest(row['manifest']).body_sha256}.body"
        if row["digest"] in self._there:
            return True
        if called_off(self._state, row["run"]) and not row["kind"].startswith(SAFE):
            return self._door.store.stat(key) is not None
        with transferring("up", row["bytes"]):
            self._door.store.put(key, body)
        if not row["kind"].startswith(CONTROL):  # small, and a purge takes them although they have yet to be announced
            self._there.add(row["digest"])
        return True

    def _mark_sent(self, row: Any, *, withheld: bool) -> None:
        now, size = self._clock(), 0 if withheld else row["bytes"]
        facts = {"run": row["run"], "kind": row["kind"], "to": row["recipients"].split()}
        with self._state.transaction():
            self._state.write(
                "UPDATE outbox SET sent=?, bytes=? WHERE run=? AND sequence=?",
                *(now_text(now), size, row["run"], row["sequence"]),
            )
            if withheld:
                self._audit.append("withheld", now, **facts, reason="the run was called off before it could leave")
        self._there.discard(row["digest"])
        _log.info("withheld" if withheld else "sent", **facts, bytes=size)

    def purge(self, run: str) -> int:
        """Delete what this party published for a run; returns how many objects there were.

        The last manifest stays. It holds no data, and shows a restored old state that this party has gone on since.

        Raises:
            StoreError: the store does not answer.
        """
        folder = f"{self._door.federation}/{self._me}/{run}/"
        last = self._state.row(
            "SELECT digest FROM outbox WHERE run=? AND sent IS NOT NULL ORDER BY sequence DESC LIMIT 1", run
        )
        if last is None:
            return self._door.store.delete(folder)
        kept = f"{folder}{last['digest']}.manifest"
        return sum(self._door.store.delete(key) for key in list(self._door.store.list(folder)) if key != kept)

    def delete(self, run: str, name: str) -> None:
        """Delete one object that this party published for a run; fine when it is gone already.

        Raises:
            StoreError: the store does not answer.
        """
        self._door.store.delete(f"{self._door.federation}/{self._me}/{run}/{name}")

    def owes(self, run: str) -> bool:
        """Whether something that derives from data was sealed for a run and has not been sent yet."""
        rows = self._state.rows("SELECT kind FROM outbox WHERE run=? AND sent IS NULL", run)
        return any(not row["kind"].startswith(CONTROL) for row in rows)

    def _remove_orphans(self) -> None:
        wanted = {row["body"] for row in self._state.rows("SELECT body FROM outbox WHERE sent IS NULL")}
        published = {row["digest"] for row in self._state.rows("SELECT digest FROM outbox WHERE run=?", POOL)}
        for path in [*self._outbox.iterdir(), *self._kept.glob("*")]:
            if path.name not in wanted | published:
                path.unlink(missing_ok=True)
