"""This silo's use of the federation's pool: read what is listed, recompute what it cost, pull what may be pulled.

Nothing is believed on one word alone. The catalog says what a generator is, by the silo's present key and no older
than the snapshot; the manifest, signed by the silo too, says the same of its release; the plaintext has the hash that
the catalog names; and the protocol's reader takes it. What fails is refused with its reason, and the others go on.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from services import chunks
from services.artifact import MAX_MANIFEST_BYTES, POOL, Derived, Header, digest
from services.courier.outgoing import KEPT
from services.errors import InvalidArtifact, SilokitError
from services.files import TEMPORARY, private_folder, sync_folder
from services.seal import Manifest, open_sealed, verify
from services.state import now_text
from services.store import ObjectAbsent, ObjectTooLarge
from services.trust.catalog import GENERATOR, SEAL, Listed
from services.wiring import Assembly
from silo_agent.policy import Policy
from silo_agent.pool.index import Entry, Judge, PoolIndex, own_copy, totals

_log = structlog.get_logger()

Check = Callable[[Path, Listed], object]


class NotForUs(SilokitError):
    """No seal of the generator is for this silo's keys yet."""


class Pool:
    """See the module; its methods are for the threads that answer commands.

    Args:
        parts: the silo's parts.
        policy: reads the policy as it stands now.
        outputs: where pulled generators are kept, in the folder `pool`.
        check: called with a generator's file and what is listed of it; raises whatever it likes when they do not agree.
    """

    def __init__(self, parts: Assembly, policy: Callable[[], Policy], outputs: Path, check: Check) -> None:
        self._parts = parts
        self._policy = policy
        self._outputs = outputs
        self._check = check
        self._index = PoolIndex(parts.state)
        self._me = parts.ring.name
        self._busy = threading.Lock()
        for half_written in (outputs / POOL).glob(f"*/{TEMPORARY}*"):  # a crash left it
            half_written.unlink(missing_ok=True)

    def refresh(self) -> dict[str, Any]:
        """Read every member's catalog; returns how many generators there are, and whose could not be read.

        Raises:
            TrustError, StoreError: the pool cannot be read now; what was known stays.
            ConfigError: the policy cannot be read.
        """
        with self._busy:
            judge, now = Judge(self._policy().pool_epsilon), self._parts.clock()
            catalog = self._parts.trust.catalog()
            members = self._parts.trust.roster.members
            known = {one.listed.name: one for one in self._index.entries()}
            found = {
                one.name: self._standing(judge.judge(one))
                for listed in catalog.generators.values()
                for one in listed.values()
            }
            for name, one in known.items():
                silo = one.listed.silo
                if silo not in members:
                    found[name] = replace(one, state="refused", why=f"{silo} is no member any more")
                elif silo in catalog.faults:
                    found[name] = replace(one, state="refused", why=catalog.faults[silo])
                elif name not in found and own_copy(self._outputs, one.listed).exists():
                    found[name] = replace(one, state="withdrawn", why="its silo withdrew it; this silo's copy stays")
            present = [one for one in found.values() if one.listed.silo in catalog.generators]
            summary = {
                "at": now_text(now),
                "faults": dict(catalog.faults),
                "totals": [vars(one) for one in totals(present)],  # a withdrawal takes no copy back
            }
            self._index.keep(found.values(), summary)
        return {"generators": len(found), "silos": len(catalog.generators), "faults": summary["faults"]}

    def pull(self, name: str) -> dict[str, str]:
        """Fetch, verify and keep one generator of the last refresh; returns what became of it and why.

        Raises:
            UnknownGenerator: there is none of that name.
            StoreError, TrustError: it cannot be had or judged now.
        """
        with self._busy:
            entry = self._index.find(name)
            listed = entry.listed
            if entry.state == "listed":
                entry = self._try(entry)
            path = own_copy(self._outputs, listed)
            return {
                "name": listed.name, "state": entry.state, "why": entry.why, "path": str(path) if path.exists() else "",
            }  # fmt: skip

    def _standing(self, entry: Entry) -> Entry:
        """As judged; pulled already where the copy here is still what its silo lists."""
        known = own_copy(self._outputs, entry.listed)
        here = entry.state == "listed" and known.exists() and known.stat().st_size == entry.listed.length
        return replace(entry, state="pulled") if here and _sha256(known) == entry.listed.sha256 else entry

    def _try(self, entry: Entry) -> Entry:
        listed = entry.listed
        try:
            self._fetch(listed)
        except (NotForUs, ObjectAbsent) as error:  # nothing is wrong with it: another time perhaps
            return replace(entry, why=error.what)
        except (InvalidArtifact, ObjectTooLarge) as error:
            _log.warning("generator refused", generator=listed.name, reason=error.what)
            with self._parts.state.transaction():
                now = self._parts.clock()
                self._parts.state.quarantine(f"{POOL}/{listed.name}", error.what, now)
                self._parts.audit.append("generator refused", now, manifest=listed.digest, reason=error.what)
                self._index.mark(listed, "refused", error.what)
            return replace(entry, state="refused", why=error.what)
        with self._parts.state.transaction():
            self._parts.audit.append(
                "generator pulled", self._parts.clock(), sender=listed.silo, manifest=listed.digest
            )
            self._index.mark(listed, "pulled")
        _log.info("generator pulled", generator=listed.name, bytes=listed.length)
        return replace(entry, state="pulled")

    def _fetch(self, listed: Listed) -> None:
        target = own_copy(self._outputs, listed)
        fresh = private_folder(target.parent) / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            if listed.silo == self._me:
                shutil.copyfile(self._parts.state.folder / KEPT / listed.digest, fresh)
            else:
                self._open(listed, fresh)
            if fresh.stat().st_size != listed.length or _sha256(fresh) != listed.sha256:
                raise InvalidArtifact("what was sealed is not what the catalog lists")
            _read(self._check, fresh, listed)
            fresh.rename(target)
            sync_folder(target.parent)
        finally:
            fresh.unlink(missing_ok=True)

    def _open(self, listed: Listed, fresh: Path) -> None:
        store, folder = self._parts.store, f"{self._parts.config.federation}/{listed.silo}/{POOL}"
        manifest = self._for_us(listed, folder)
        if manifest.body_length != chunks.body_length(listed.length):
            raise InvalidArtifact("its body has not the length that the catalog lists")
        sealed = fresh.with_name(f"{fresh.name}.body")
        try:
            store.get(f"{folder}/{manifest.body_sha256}.body", sealed, manifest.body_length)
            open_sealed(manifest, sealed, self._parts.ring.openers, fresh)
        finally:
            sealed.unlink(missing_ok=True)

    def _for_us(self, listed: Listed, folder: str) -> Manifest:
        """The newest seal to one of our keys."""
        mine = {key.public.key_id for key in self._parts.ring.openers}
        noticed = datetime.fromisoformat(self._index.summary()["at"])  # no more news is fetched over a bad signature
        for name in reversed(listed.about.seals):
            data = self._parts.store.read(f"{folder}/{name}.manifest", MAX_MANIFEST_BYTES)
            if digest(data) != name:
                raise InvalidArtifact("a manifest is not what its name promises")
            manifest = self._parts.trust.verified(listed.silo, noticed, lambda key, data=data: verify(data, key))  # type: ignore[misc]
            if mine.isdisjoint(manifest.header.recipients):
                continue
            self._compare(listed, manifest.header, original=name == listed.digest)
            return manifest
        raise NotForUs(
            f"{listed.silo} has not sealed it to this silo's keys yet",
            fix=f"refresh and pull again later: {listed.silo} does so once its agent sees the roster",
        )

    def _compare(self, listed: Listed, header: Header, *, original: bool) -> None:
        expected = listed.about.spend() if original else Derived(digests=(listed.digest,))
        if header.release != expected:
            raise InvalidArtifact("its manifest says something else of its release than the catalog")
        place = (self._parts.config.federation, listed.silo, POOL, GENERATOR if original else SEAL)
        if (header.federation, header.sender, header.run, header.kind) != place:
            raise InvalidArtifact("its manifest was signed for another place (federation, sender, run or kind)")
        if not header.live_at(self._parts.clock()):
            raise InvalidArtifact("its manifest is not of the present")


def _read(check: Check, path: Path, listed: Listed) -> None:
    try:
        check(path, listed)
    except (InvalidArtifact, OSError, MemoryError):
        raise
    except Exception as error:
        raise InvalidArtifact(f"it is no generator that this program reads ({type(error).__name__})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
