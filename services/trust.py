"""Who belongs to the federation, by the consortium's word: a signed roster, pinned root, no way back.

Rules:
- A party pins the consortium's root key when it enrols, after people compared fingerprints out of band.
- A roster is believed when the root signed it, it is of this federation, it has not expired, and its version is not
  below the highest one this party ever believed; the same version with other content is refused too.
- Rosters lie in the object store, one object per version. A store that hides new ones can freeze a party until the
  believed roster expires, and no longer: then nothing is joined or accepted, and local work goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services import dsse
from services.artifact import Name, canonical_json, parse_json
from services.errors import InvalidArtifact, SilokitError, TrustError
from services.keys import PublicIdentity, SealTo, SigningKey, VerifyKey, fingerprint
from services.state import State
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge

ROSTER_TYPE = "application/vnd.silokit.roster+json"
MAX_ROSTER_BYTES = 4 << 20
RESERVED_NAMES = frozenset({"roster"})
_ROSTER_KEY = re.compile(r"[a-z0-9-]+/roster/(\d{10})\.roster")
_LITTER = (TrustError, ObjectTooLarge, ObjectAbsent)
_log = structlog.get_logger()


class Roster(BaseModel):
    """The members of a federation and their public keys, as the consortium's root signed them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    federation: Name
    version: int = Field(ge=1, lt=10**10)
    created: AwareDatetime
    expires: AwareDatetime
    coordinator: Name
    members: dict[Name, PublicIdentity]


class Trust(Protocol):
    """What a party believes about the others."""

    @property
    def coordinator(self) -> str:
        """The coordinator's name.

        Raises:
            TrustError: the trust is stale.
        """

    def member(self, name: str) -> PublicIdentity:
        """A member's public keys.

        Raises:
            TrustError: the trust is stale, or there is no such member.
        """

    def verify_key(self, sender: str) -> VerifyKey:
        """The key that a sender's signatures verify under.

        Raises:
            TrustError: the trust is stale: judge later.
            InvalidArtifact: the sender is a stranger.
        """

    def refresh(self) -> None:
        """Look for news; keeps what it has when the store does not answer."""


def sign_roster(roster: Roster, root: SigningKey) -> bytes:
    """The roster as the consortium publishes it."""
    return dsse.sign(canonical_json(roster.model_dump(mode="json")), ROSTER_TYPE, root)


def read_roster(data: bytes, root: VerifyKey) -> Roster:
    """A roster that the root signed; its expiry and version are the caller's to judge.

    Raises:
        TrustError: the signature or the form does not hold.
    """
    try:
        payload = dsse.verify(data, ROSTER_TYPE, root, limit=MAX_ROSTER_BYTES)
        return Roster.model_validate(parse_json(payload, MAX_ROSTER_BYTES))
    except (InvalidArtifact, ValidationError) as error:
        raise TrustError(
            "the roster is not what the pinned root signed",
            fix="compare the root's fingerprint with the consortium again, out of band; enrol anew if it changed",
        ) from error


def roster_key(federation: str, version: int) -> str:
    """Where a roster's version lies in the object store."""
    return f"{federation}/roster/{version:010d}.roster"


def newest_roster(store: ObjectStore, federation: str, root: VerifyKey) -> Roster:
    """The newest roster in the store that the root signed, expired or not.

    Raises:
        TrustError: there is none.
        StoreError: the store does not answer.
    """
    for key in _published(store, federation, above=0):
        try:
            return read_roster(store.read(key, MAX_ROSTER_BYTES), root)
        except _LITTER as error:
            _log.warning("roster refused", object=key, reason=error.what)
    raise TrustError(
        "the store holds no roster that the pinned root signed", fix="check that it is the federation's store"
    )


def _published(store: ObjectStore, federation: str, above: int) -> list[str]:
    """Keys of rosters above a version, newest first: a forged newer one must not hide a true older one."""
    keys = [key for key in store.list(f"{federation}/roster/") if _ROSTER_KEY.fullmatch(key)]
    return sorted((key for key in keys if key > roster_key(federation, above)), reverse=True)


class RosterTrust:
    """`Trust` by signed rosters in the object store.

    Args:
        federation: whose roster.
        root: the pinned root key.
        state: remembers the roster believed last.
        store: where rosters lie.
        clock: the present.
    """

    def __init__(
        self,
        federation: str,
        root: VerifyKey,
        state: State,
        store: ObjectStore,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._federation = federation
        self._root = root
        self._state = state
        self._store = store
        self._clock = clock
        remembered = state.fact("roster")
        self._roster = read_roster(remembered.encode(), root) if remembered else None

    @property
    def coordinator(self) -> str:
        """See `Trust.coordinator`."""
        return self.roster.coordinator

    @property
    def roster(self) -> Roster:
        """The believed roster.

        Raises:
            TrustError: there is none, or it has expired.
        """
        if self._roster is None:
            raise TrustError(
                "no roster of the federation is known yet",
                fix="wait for the coordinator to publish one, and check that the store is the federation's",
            )
        if self._clock() > self._roster.expires:
            raise TrustError(
                f"the roster (version {self._roster.version}) expired at {self._roster.expires:%Y-%m-%d %H:%M} UTC",
                fix="the consortium must publish a new one: `coordinator renew`",
                kept="local work goes on; nothing is joined or accepted until then",
            )
        return self._roster

    def member(self, name: str) -> PublicIdentity:
        """See `Trust.member`."""
        found = self.roster.members.get(name)
        if found is None:
            raise TrustError(f"{name} is not a member of {self._federation}", fix="ask the consortium to admit it")
        return found

    def verify_key(self, sender: str) -> VerifyKey:
        """See `Trust.verify_key`."""
        if sender not in self.roster.members:
            self.refresh()
        found = self.roster.members.get(sender)
        if found is None:
            raise InvalidArtifact("the sender is not a member of the federation")
        return found.verify

    def refresh(self) -> None:
        """See `Trust.refresh`."""
        try:
            known = self._roster.version if self._roster else 0
            for key in _published(self._store, self._federation, above=known):
                if self._try(key):
                    return
        except SilokitError as error:
            _log.warning("the roster could not be refreshed", reason=error.what)

    def _try(self, key: str) -> bool:
        try:
            self.believe(self._store.read(key, MAX_ROSTER_BYTES))
        except _LITTER as error:
            _log.warning("roster refused", object=key, reason=error.what)
            return False
        return True

    def believe(self, data: bytes) -> Roster:
        """Take a roster as the newest one.

        Raises:
            TrustError: it is forged, of another federation, expired, or behind what was believed before.
        """
        roster = read_roster(data, self._root)
        if roster.federation != self._federation:
            raise TrustError("the roster is of another federation")
        if self._clock() > roster.expires:
            raise TrustError(
                f"the roster (version {roster.version}) has expired", fix="ask the consortium for a new one"
            )
        if self._roster is not None:
            same = canonical_json(self._roster.model_dump(mode="json")) == canonical_json(
                roster.model_dump(mode="json")
            )
            if roster.version < self._roster.version or (roster.version == self._roster.version and not same):
                raise TrustError(
                    f"the roster (version {roster.version}) is behind or beside the believed one "
                    f"(version {self._roster.version})",
                    fix="somebody replays an old roster: tell the consortium",
                    kept="the believed roster stays in force",
                )
        self._state.remember("roster", data.decode())
        self._roster = roster
        return roster


def sealing_keys(trust: Trust, names: Mapping[str, object] | tuple[str, ...]) -> dict[str, SealTo]:
    """The members' long-lived encryption keys.

    Raises:
        TrustError: the trust is stale, or one of them is no member.
    """
    return {name: trust.member(name).seal for name in names}


def root_fingerprint(root: VerifyKey) -> str:
    """The root key as people read it to each other over the telephone."""
    return fingerprint(root.raw)
