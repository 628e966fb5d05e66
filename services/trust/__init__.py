"""Who belongs to the federation, and whose word that is.

The members and their public keys are the *roster*. It is a target of one TUF repository (The Update Framework, the
specification's 1.0 series, by python-tuf) that lies in the object store under the federation's folder `trust`:

- `root` and `targets` are signed by k of n keyholders, whose keys are offline. The roster is a target, and every
  member has a delegation of its own, signed with its own key, for targets below its name.
- `snapshot` and `timestamp` are signed by the coordinator's online key, which says every minute what is newest.

A party pins the root when it enrols, after people compared fingerprints out of band. From then on it believes only
what leads back to that root, never an older version of anything, and nothing for longer than the timestamp lives:
stale trust stops joins and acceptance, local work goes on, and the first fresh timestamp heals it.

Whoever steals the coordinator can withhold news from the federation until the targets expire, and say nothing new:
it can neither make a member nor take one's name nor bring an older roster back to whoever saw a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.artifact import Name
from services.errors import TrustError
from services.keys import PublicIdentity, SealTo, VerifyKey

ROSTER = "roster.json"
"""The roster's name among the repository's targets."""
FOLDER = "trust"
"""The repository's folder in the store, beside the members' own."""
MAX_ROSTER_BYTES = 4 << 20
CATALOG = "product.catalog"
"""The kind of message by which a silo hands its signed catalog of published generators to the coordinator."""
MAX_CATALOG_BYTES = 4_000_000
RESERVED_NAMES = frozenset({FOLDER, "root", "targets", "snapshot", "timestamp"})
"""What no party may be called: the repository's folder, and the roles beside which its delegations stand."""
SKEW = timedelta(minutes=10)
"""How far a party's clock may be off: metadata counts as expired only when it is for every clock within this."""

Found = TypeVar("Found")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FormerKey(_Part):
    """A signing key that a member gave up; what it signed is still taken until its grace ends."""

    verify: VerifyKey
    until: AwareDatetime


class Roster(_Part):
    """The members of a federation and their public keys."""

    federation: Name
    coordinator: Name
    members: dict[Name, PublicIdentity]
    former: dict[Name, tuple[FormerKey, ...]] = Field(default={})


class Belief(_Part):
    """What a party believed last, and for how long.

    Attributes:
        roster: the members.
        version: of the signed targets that name the roster.
        expires: when the keyholders must have signed anew.
        root_expires: when they must have signed a new root.
        fresh_until: when the coordinator's word on what is newest runs out.
        catalogs: which version of each member's catalog of published generators is newest.
    """

    roster: Roster
    version: int
    expires: AwareDatetime
    root_expires: AwareDatetime
    fresh_until: AwareDatetime
    catalogs: dict[Name, int] = Field(default={})


class Trust(Protocol):
    """What a party believes about the others."""

    @property
    def coordinator(self) -> str:
        """The coordinator's name.

        Raises:
            TrustError: the trust is stale.
        """

    @property
    def roster(self) -> Roster:
        """The members.

        Raises:
            TrustError: the trust is stale.
        """

    def member(self, name: str) -> PublicIdentity:
        """A member's public keys.

        Raises:
            TrustError: the trust is stale, or there is no such member.
        """

    def verified(self, sender: str, noticed: datetime, check: Callable[[VerifyKey], Found]) -> Found:
        """What `check` finds under the sender's key, or under a former one whose grace has not ended.

        Whoever has no key that fits is refused only by news from after its artifact was noticed: a member may be
        new, or may have changed its key a moment ago.

        Args:
            sender: who is said to have signed.
            noticed: when the artifact was heard of first.
            check: raises BadSignature when the signature does not hold under a key.

        Raises:
            TrustError: the trust is stale, or the news cannot be had: judge later.
            BadSignature: the sender is a stranger, or did not sign it.
        """

    def refresh(self) -> None:
        """Look for news; keeps what it has when there is none to be had."""


def sealing_keys(trust: Trust, names: Mapping[str, object] | tuple[str, ...]) -> dict[str, SealTo]:
    """The members' long-lived encryption keys.

    Raises:
        TrustError: the trust is stale, or one of them is no member.
    """
    return {name: trust.member(name).seal for name in names}


def departed(trust: Trust, names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these are no members any more; nobody, as long as the trust is stale."""
    try:
        members = trust.roster.members
    except TrustError:
        return ()
    return tuple(name for name in names if name not in members)
