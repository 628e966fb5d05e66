"""What this silo has in the pool: its catalog, and seals for members who came later or changed their keys.

Rules:
- The outbox has the last word on what was published: whatever was sealed for the pool is listed until it is withdrawn.
  A crash between the seal and the catalog is therefore nothing special: the next look lists it.
- Every look compares what should be listed with what the roster's snapshot shows, and sends the catalog again with
  growing pauses until it shows: a coordinator that was away adopts later.
- A seal counts while this silo's present key signed it and the roster names its recipient's key. Who has no such seal
  is given another one of the kept plaintext. It is the same release, so it charges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from services.artifact import POOL, Derived, Header, Spend, canonical_json, digest
from services.contract import Message
from services.courier.outgoing import FOR_GOOD, KEPT
from services.errors import InvalidArtifact, SilokitError, StateError, TrustError
from services.log import Troubles
from services.runs import Run
from services.seal import read_manifest, verify
from services.state import now_text
from services.trust import CATALOG, Roster, sealing_keys
from services.trust.catalog import GENERATOR, MAX_SEALS, SEAL, Listed, Published, make_catalog, release_text
from services.wiring import Assembly

CATALOG_LIFE = timedelta(days=365)
_LOOK_EVERY = timedelta(seconds=60)  # when nothing changed
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=60), timedelta(hours=1)
_LIFE_OF_A_MESSAGE = timedelta(days=30)
_MOST_DIGESTS = 1024  # that a release names
_OWN, _WITHDRAWN, _SENT = "pool.own", "pool.withdrawn", "pool.catalog"  # facts
_log = structlog.get_logger()


@dataclass(frozen=True)
class _Seal:
    digest: str
    header: Header
    body_sha256: str
    signer: str
    sent: bool


class Shelf:
    """A silo's own generators.

    Args:
        parts: the silo's parts.
    """

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts
        self._state = parts.state
        self._own = parts.state.folder / KEPT
        self._me = parts.ring.name
        self._read: dict[str, _Seal] = {}
        self._seen: object = None
        self._next_look = datetime.min.replace(tzinfo=UTC)
        self._troubles = Troubles()

    def tick(self) -> None:
        """Bring the pool in line with what this silo has published; cheap when nothing changed."""
        try:
            belief, now = self._parts.trust.belief, self._parts.clock()
            shown = belief.catalogs.get(self._me, 0)
            published = self._state.row("SELECT count(*), count(sent) FROM outbox WHERE run=?", POOL)
            seen = (tuple(published or ()), belief.version, shown, self._withdrawn())
            if self._me in belief.roster.members and (seen != self._seen or now >= self._next_look):
                self._seen, self._next_look = seen, now + _LOOK_EVERY
                self._look(belief.roster, shown, now)
        except TrustError:
            return  # stale: local work goes on
        except SilokitError as error:
            self._troubles.say(POOL, error.what)

    def listed(self) -> list[Listed]:
        """What the catalog should list, oldest first."""
        found = []
        for original, seals in self._shelf():
            try:
                found.append(self._listed(original, seals))
            except StateError as error:  # the others are listed all the same
                self._troubles.say(f"{POOL} {original.digest[:12]}", error.what)
        return found

    def withdraw(self, name: str) -> str:
        """Take one of this silo's generators out of the pool; does what is left to do when it was begun before.

        Args:
            name: its digest, or a beginning of it.

        Raises:
            StateError: this silo published none of that name, or it has yet to leave.
            StoreError: the store does not answer; it is listed no more, and withdrawing it again deletes the objects.
        """
        start = name.rpartition("/")[2]
        shelves = [(one, seals) for one, seals in self._shelf(withdrawn=True) if one.digest.startswith(start)]
        if len(shelves) != 1:
            raise StateError(
                f"{len(shelves)} of this silo's generators are called {name!r}", fix="see `silo-agent pool list`"
            )
        original, seals = shelves[0]
        if not all(seal.sent for seal in seals):
            raise StateError(
                "a seal of this generator has yet to leave, and would come after the withdrawal",
                fix="withdraw again when store and bus answer", kept="everything: it stays listed",
            )  # fmt: skip
        with self._state.transaction():
            if original.digest not in (gone := self._withdrawn()):
                self._state.remember(_WITHDRAWN, [*gone, original.digest])
                self._parts.audit.append("generator withdrawn", self._parts.clock(), manifest=original.digest)
        for seal in seals:
            for one in (f"{seal.digest}.manifest", f"{seal.body_sha256}.body"):
                self._parts.courier.delete(POOL, one)
        (self._own / original.digest).unlink(missing_ok=True)
        return f"{original.digest[:12]} leaves the catalog and its objects are deleted; who pulled it keeps it"

    # the shelf

    def _shelf(self, *, withdrawn: bool = False) -> list[tuple[_Seal, list[_Seal]]]:
        """Every original, oldest first, with all its seals."""
        gone = () if withdrawn else self._withdrawn()
        shelf: dict[str, tuple[_Seal, list[_Seal]]] = {}
        for row in self._state.rows("SELECT digest, sent FROM outbox WHERE run=? ORDER BY sequence", POOL):
            seal = self._seal(row["digest"], sent=row["sent"] is not None)
            if isinstance(seal.header.release, Derived):
                shelf[seal.header.release.digests[0]][1].append(seal)
            else:
                shelf[seal.digest] = (seal, [seal])
        return [(one, seals) for one, seals in shelf.values() if one.digest not in gone]

    def _seal(self, name: str, *, sent: bool) -> _Seal:
        known = self._read.get(name)
        if known is None or known.sent != sent:
            row = self._state.row("SELECT manifest FROM outbox WHERE run=? AND digest=?", POOL, name)
            manifest = row["manifest"] if row else b""
            claim = read_manifest(manifest)
            self._read[name] = _Seal(name, claim.header, claim.body_sha256, self._signer(manifest), sent)
        return self._read[name]

    def _signer(self, manifest: bytes) -> str:
        for key in self._parts.ring.signed_with:
            try:
                verify(manifest, key)
            except InvalidArtifact:
                continue
            return key.key_id
        return ""

    def _withdrawn(self) -> tuple[str, ...]:
        return tuple(self._state.fact(_WITHDRAWN) or ())

    def _listed(self, original: _Seal, seals: Sequence[_Seal]) -> Listed:
        known = self._state.fact(f"{_OWN}:{original.digest}")
        if known is None:
            known = self._describe(original)
            self._state.remember(f"{_OWN}:{original.digest}", known)
        about = Published.model_validate({**known["about"], "seals": [seal.digest for seal in _lasting(seals)]})
        return Listed(self._me, original.digest, known["sha256"], known["length"], about)

    def _describe(self, original: _Seal) -> dict[str, Any]:
        """What stays true of a generator, from the ledger and its run's specification."""
        paid = self._state.row("SELECT run, dataset FROM charges WHERE digest=?", original.digest)
        release = original.header.release
        if paid is None or not isinstance(release, Spend):
            raise StateError(f"no ledger entry paid for the published generator {original.digest[:12]}")
        data = self._plaintext(original).read_bytes()
        training = self._parts.book.get(paid["run"]).spec.get("training", {})
        said = {key: str(training[key]) for key in ("family", "label") if key in training}
        about = {"run": paid["run"], "kind": GENERATOR, "release": release_text(release), "dataset": paid["dataset"]}
        return {"sha256": digest(data), "length": len(data), "about": {**about, **said}}

    def _plaintext(self, original: _Seal) -> Path:
        path = self._own / original.digest
        if not path.exists():
            raise StateError(
                f"the generator {original.digest[:12]} is not in {self._own} any more",
                fix="restore it from a backup: late members cannot be given it otherwise",
            )
        return path

    # what is done about it

    def _look(self, roster: Roster, shown: int, now: datetime) -> None:
        for original, seals in self._shelf():
            try:
                self._reseal(original, seals, roster, now)
            except StateError as error:  # this one cannot be given to late members; the others can
                self._troubles.say(f"{POOL} {original.digest[:12]}", error.what)
        self._tell(shown, now)

    def _reseal(self, original: _Seal, seals: Sequence[_Seal], roster: Roster, now: datetime) -> None:
        key = self._parts.ring.signing.public.key_id
        given = {one for seal in _lasting(seals) if seal.signer == key for one in seal.header.recipients}
        lacking = {
            name: member.seal
            for name, member in roster.members.items()
            if name != self._me and member.seal.key_id not in given
        }
        if not lacking:
            return
        self._parts.courier.send(
            *(POOL, f"seal.{original.digest}.{len(seals)}"),
            Message(SEAL, self._plaintext(original), Derived(digests=(original.digest,))),
            lacking, expires=now + FOR_GOOD, schema_hash=original.header.schema_hash, under=POOL,
        )  # fmt: skip
        _log.info("sealed anew", generator=original.digest, to=sorted(lacking))

    def _tell(self, shown: int, now: datetime) -> None:
        """Send the catalog unless what should be listed is shown, or on its way for not so long."""
        listed, sent = self.listed(), self._state.fact(_SENT) or {"version": 0, "content": None, "tries": 0}
        if not listed and sent["version"] == 0 and shown == 0:
            return
        content = _content(listed, self._parts.ring.signing.public.key_id)
        tries = 0
        if sent["content"] == content and now < datetime.fromisoformat(sent["expires"]) - CATALOG_LIFE / 2:
            tries = sent["tries"] + 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries, 16))
            if shown == sent["version"] or now < datetime.fromisoformat(sent["at"]) + pause:
                return
        version, expires = max(shown, sent["version"]) + 1, now + CATALOG_LIFE
        run = self._newest_run()
        catalog = make_catalog(version, listed, expires.replace(microsecond=0))
        catalog.sign(self._parts.ring.signing.signer())
        coordinator = sealing_keys(self._parts.trust, (self._parts.trust.coordinator,))
        # written down first: a crash leaves a gap between the versions, never two catalogs of one
        self._state.remember(
            _SENT,
            {
                "version": version, "content": content, "tries": tries,
                "at": now_text(now), "expires": now_text(expires),
            },
        )  # fmt: skip
        digests = tuple(one.digest for one, _ in self._shelf(withdrawn=True)[-_MOST_DIGESTS:])
        self._parts.courier.send(
            *(run.run, f"catalog.{version}"),
            Message(CATALOG, catalog.to_bytes(), Derived(digests=digests)),
            coordinator, expires=now + _LIFE_OF_A_MESSAGE, schema_hash=run.spec_hash,
        )  # fmt: skip
        _log.info("catalog sent", version=version, generators=len(listed))

    def _newest_run(self) -> Run:
        """The run in whose name the catalog is sent: the last one that published something."""
        paid = self._state.row(
            "SELECT charges.run FROM charges JOIN outbox ON outbox.digest=charges.digest WHERE outbox.run=? "
            "ORDER BY outbox.sequence DESC LIMIT 1",
            POOL,
        )
        return self._parts.book.get(paid["run"] if paid else POOL)


def _lasting(seals: Sequence[_Seal]) -> list[_Seal]:
    """The seals that a catalog names: the original and the newest; who had an older one is given a new one."""
    return [seals[0], *seals[1:][-(MAX_SEALS - 1) :]]


def _content(listed: Sequence[Listed], key_id: str) -> str:
    said: list[Mapping[str, Any]] = [
        {"digest": one.digest, "about": one.about.model_dump(mode="json")} for one in listed
    ]
    return digest(canonical_json([key_id, said]))
