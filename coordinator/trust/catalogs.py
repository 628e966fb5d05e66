"""What the coordinator looks at before it shows a silo's catalog to the federation: it signs none of them itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization import DeserializationError

from services.artifact import parse_json
from services.errors import InvalidArtifact
from services.trust import MAX_CATALOG_BYTES
from services.trust.catalog import read_catalog

LONGEST_LIFE = timedelta(days=400)
_MAX_VERSION = 2**31


def judge_catalog(data: bytes, silo: str, authority: Targets, now: datetime) -> int:
    """Accept a catalog as its silo signed it; returns its version.

    Args:
        data: the signed metadata.
        silo: who sent it.
        authority: the targets in force, which say with which key the silo signs.
        now: the present.

    Raises:
        InvalidArtifact: it is not the silo's, or no member would believe it.
    """
    parse_json(data, MAX_CATALOG_BYTES)  # depth and duplicates, before python-tuf parses it
    try:
        found: Metadata[Targets] = Metadata.from_bytes(data)
        if not isinstance(found.signed, Targets):
            raise InvalidArtifact("a catalog is TUF metadata of another kind")
        authority.verify_delegate(silo, found.signed_bytes, found.signatures)
    except (RepositoryError, DeserializationError, ValueError) as error:  # a ValueError: there is no such delegation
        raise InvalidArtifact(f"the catalog is not signed with the key that the roster names for {silo}") from error
    if not now < found.signed.expires <= now + LONGEST_LIFE or found.signed.version > _MAX_VERSION:
        raise InvalidArtifact("the catalog's expiry or version is out of bounds")
    read_catalog(silo, found.signed)
    return int(found.signed.version)
