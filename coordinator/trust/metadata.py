"""TUF metadata from plain values: who signs for which role, what the targets are, and for how long it holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from services.artifact import canonical_json
from services.keys import SigningKey, VerifyKey
from services.trust import ROSTER, Roster

ROOT_LIFE = timedelta(days=365)
SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(minutes=5)
TIMESTAMP_EVERY = timedelta(minutes=1)
NAMES = "x-silokit-keyholders"
"""The field of a root that tells people whose key is whose; nothing is decided by it."""


def make_root(
    version: int, holders: Mapping[str, VerifyKey], threshold: int, online: VerifyKey, now: datetime
) -> Metadata[Root]:
    """A root without signatures (TUF specification, section 4.3).

    Args:
        version: one more than the root before it.
        holders: the keyholders' keys by their names.
        threshold: how many of them must sign.
        online: the coordinator's key for snapshot and timestamp.
        now: the present.
    """
    ids = sorted(key.key_id for key in holders.values())
    offline, always = Role(ids, threshold), Role([online.key_id], 1)
    return Metadata(
        Root(
            version=version,
            expires=now + ROOT_LIFE,
            keys={key.key_id: key.sslib() for key in (*holders.values(), online)},
            roles={"root": offline, "targets": offline, "snapshot": always, "timestamp": always},
            consistent_snapshot=True,
            unrecognized_fields={NAMES: {name: key.key_id for name, key in sorted(holders.items())}},
        )
    )


def holders_of(root: Root) -> dict[str, VerifyKey]:
    """The keyholders' keys by the names that the root gives them."""
    names: dict[str, str] = root.unrecognized_fields.get(NAMES, {})
    return {name: VerifyKey(root.get_key(key_id).keyval["public"]) for name, key_id in names.items()}


def roster_bytes(roster: Roster) -> bytes:
    """The roster as it is published."""
    return canonical_json(roster.model_dump(mode="json"))


def roster_name(targets: Targets) -> str:
    """Where the roster that these targets name lies in the repository's folder."""
    return f"targets/{targets.targets[ROSTER].hashes['sha256']}.{ROSTER}"


def make_targets(version: int, roster: Roster, expires: datetime) -> Metadata[Targets]:
    """Targets without signatures: the roster, and for every member the right to sign for what lies below its name.

    A delegation ends the search, so that nobody else can answer for a member's name (specification, section 4.5).
    Former keys are left out: a catalog is signed anew when its owner changes its key.
    """
    return Metadata(
        Targets(
            version=version,
            expires=expires,
            targets={ROSTER: TargetFile.from_data(ROSTER, roster_bytes(roster), ["sha256"])},
            delegations=Delegations(
                keys={one.verify.key_id: one.verify.sslib() for one in roster.members.values()},
                roles={
                    name: DelegatedRole(name, [one.verify.key_id], 1, terminating=True, paths=[f"{name}/*"])
                    for name, one in sorted(roster.members.items())
                },
            ),
        )
    )


def make_snapshot(
    version: int, targets_version: int, now: datetime, catalogs: Mapping[str, MetaFile] = MappingProxyType({})
) -> Metadata[Snapshot]:
    """A snapshot without signatures: which versions belong together."""
    meta = {"targets.json": MetaFile(targets_version), **catalogs}
    return Metadata(Snapshot(version=version, expires=now + SNAPSHOT_LIFE, meta=meta))


def make_timestamp(version: int, snapshot: bytes, snapshot_version: int, now: datetime) -> Metadata[Timestamp]:
    """A timestamp without signatures: which snapshot is newest, by version, length and digest."""
    meta = MetaFile.from_data(snapshot_version, snapshot, ["sha256"])
    return Metadata(Timestamp(version=version, expires=now + TIMESTAMP_LIFE, snapshot_meta=meta))


def signed(metadata: Metadata[Any], key: SigningKey) -> bytes:
    """The metadata's bytes with one more signature."""
    metadata.sign(key.signer(), append=True)
    return metadata.to_bytes()
