"""Enrolment files: a signed request that shows a silo's public keys, and an admission that carries root and roster.

Neither file is secret, and neither is believed for its own sake: people compare the fingerprints out of band.
"""

from __future__ import annotations

import base64
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from services import dsse
from services.artifact import Name, canonical_json, parse_json
from services.errors import InvalidArtifact, TrustError
from services.files import write_atomic
from services.keys import Identity, PublicIdentity, VerifyKey
from services.trust import MAX_ROSTER_BYTES, Roster, read_roster

REQUEST_TYPE = "application/vnd.silokit.enrolment+json"
_LIMIT = MAX_ROSTER_BYTES * 2


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    federation: Name
    identity: PublicIdentity


class _Admission(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    root: VerifyKey
    roster: str


def write_request(identity: Identity, federation: str, target: Path) -> None:
    """Write a request that proves possession of the signing key."""
    request = _Request(federation=federation, identity=identity.public)
    payload = canonical_json(request.model_dump(mode="json"))
    write_atomic(target, dsse.sign(payload, REQUEST_TYPE, identity.signing), mode=0o644)


def read_request(data: bytes, federation: str) -> PublicIdentity:
    """The public keys that a request shows.

    Raises:
        TrustError: it is malformed, not signed by the key it shows, or for another federation.
    """
    try:
        shown = _Request.model_validate(parse_json(dsse.peek(data, REQUEST_TYPE, _LIMIT)))
        dsse.verify(data, REQUEST_TYPE, shown.identity.verify, _LIMIT)
    except (InvalidArtifact, ValidationError) as error:
        raise TrustError(
            "the enrolment request does not hold", fix="ask the silo to run `silo-agent enroll` again and to resend it"
        ) from error
    if shown.federation != federation:
        raise TrustError(f"the enrolment request is for {shown.federation}, not for {federation}")
    return shown.identity


def write_admission(root: VerifyKey, roster: bytes, target: Path) -> None:
    """Write what an admitted silo needs: the root key and the roster that names the silo."""
    admission = _Admission(root=root, roster=base64.b64encode(roster).decode())
    write_atomic(target, canonical_json(admission.model_dump(mode="json")), mode=0o644)


def read_admission(data: bytes) -> tuple[VerifyKey, Roster]:
    """The root key and the roster in an admission; the root's fingerprint is the caller's to compare.

    Raises:
        TrustError: it is malformed, or the roster is not signed by that root.
    """
    try:
        admission = _Admission.model_validate(parse_json(data, _LIMIT))
        roster = base64.b64decode(admission.roster, validate=True)
    except (InvalidArtifact, ValueError) as error:
        raise TrustError("the admission file is malformed", fix="ask the consortium to send it again") from error
    return admission.root, read_roster(roster, admission.root)


def read_limited(path: Path) -> bytes:
    """A file from somebody else, up to a limit.

    Raises:
        TrustError: it is absent or too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
    if len(data) > _LIMIT:
        raise TrustError(f"{path} is larger than any enrolment file")
    return data
