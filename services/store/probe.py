"""What a store really does, found out at start: some ignore what they do not know, without a word.

The probe asks by doing. It puts one well-known object under the party's own prefix twice, and looks whether the
second put was refused; it tries to write to another's prefix and to look outside the federation, and looks whether
that was denied. It deletes nothing, and leaves nothing behind but that one object per party: what it may wrongly
write elsewhere is the other party's own probe object.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from services.errors import StoreError
from services.store import ObjectStore
from services.store.diagnosis import AccessDenied
from services.store.s3 import S3Store

_OUTSIDE = "silokit-probe"  # a prefix beside the federation's
_MAX_BYTES = 1 << 10
_log = structlog.get_logger()

Verdict = Literal["refuse", "warn", "accept"]


class StoreRefused(StoreError):
    """The store lacks what the policy does not do without."""


class StorePolicy(BaseModel):
    """What becomes of a store that lacks something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conditional: Verdict = Field(default="refuse", description="it overwrites what should be put only once")
    versioned: Verdict = Field(default="warn", description="what is deleted or overwritten by theft is gone")
    foreign_denied: Verdict = Field(default="refuse", description="this party can write as another")
    outside_denied: Verdict = Field(default="warn", description="this party sees other federations")


@dataclass(frozen=True)
class Capabilities:
    """What a store was seen to do; None is what it does not tell.

    Args:
        conditional: a second put of one key is refused.
        versioned: what is overwritten or deleted is kept.
        foreign_denied: this party cannot write under another's prefix.
        outside_denied: this party cannot look outside its federation.
    """

    conditional: bool
    versioned: bool | None
    foreign_denied: bool
    outside_denied: bool

    def judge(self, policy: StorePolicy) -> list[str]:
        """What is lacking and tolerated, a sentence each.

        Raises:
            StoreRefused: something is lacking that the policy does not tolerate.
        """
        lacking = [one.name for one in fields(self) if getattr(self, one.name) is False]
        refused = [name for name in lacking if getattr(policy, name) == "refuse"]
        if refused:
            raise StoreRefused(
                "this store cannot be trusted with the federation: " + "; ".join(_LACKS[name][0] for name in refused),
                fix="; ".join(_LACKS[name][1] for name in refused),
                kept="nothing was sent",
            )
        return [_LACKS[name][0] for name in lacking if getattr(policy, name) == "warn"]


_LACKS = {
    "conditional": (
        "it overwrites an object that was put only if absent, without an error",
        "use a store that honours If-None-Match",
    ),
    "versioned": (
        "it keeps no versions: what stolen credentials overwrite or delete is gone",
        "have the bucket versioned",
    ),
    "foreign_denied": (
        "it lets this party write under another's prefix",
        "the consortium must provision the store's identities",
    ),
    "outside_denied": (
        "it lets this party look outside the federation's prefix",
        "the consortium must provision the store's identities",
    ),
}


def probe_key(federation: str, party: str) -> str:
    """Where a party's probe object lies."""
    return f"{federation}/{party}/probe/once.probe"


def speed_key(federation: str, party: str) -> str:
    """Where lies what a party's `check --network` sends to and fro."""
    return f"{federation}/{party}/probe/speed.probe"


def probe(store: ObjectStore, federation: str, me: str, other: str) -> Capabilities:
    """Find out what a store does.

    Args:
        store: the store, as this party.
        federation: the federation's name.
        me: this party's name.
        other: a prefix under which this party must not write: another party's name, or one of the federation's folders.

    Raises:
        StoreError: the store does not answer, or does not let this party do its work.
    """
    own = probe_key(federation, me)
    found = Capabilities(
        conditional=_is_conditional(store, own),
        versioned=store.versioned(own) if isinstance(store, S3Store) else None,
        foreign_denied=_is_denied(store, probe_key(federation, other), write=True),
        outside_denied=_is_denied(store, f"{_OUTSIDE}/once.probe", write=False),
    )
    _log.info("store probed", **{one.name: getattr(found, one.name) for one in fields(found)})
    return found


def _is_conditional(store: ObjectStore, key: str) -> bool:
    """Whether a put onto an existing object is refused, and not only said to be."""
    store.put(key, _new())
    before = store.read(key, _MAX_BYTES)
    return not store.put(key, _new()) and store.read(key, _MAX_BYTES) == before


def _is_denied(store: ObjectStore, key: str, *, write: bool) -> bool:
    try:
        if write:
            store.put(key, _new())
        else:
            store.stat(key)
    except AccessDenied:
        return True
    return False


def _new() -> bytes:
    return f"silokit probe {secrets.token_hex(8)}\n".encode()
