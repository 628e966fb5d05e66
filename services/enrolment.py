"""Enrolment files: a signed request that shows a silo's public keys, and an admission that carries what it then needs.

The request carries a certificate request too, the admission the certificate, and credentials for the store sealed to
the silo. No private key travels, neither file is secret, and neither is believed for its own sake: people compare the
fingerprints out of band.
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
from services.store.credentials import StoreCredentials
from services.trust import MAX_ROSTER_BYTES, Roster, read_roster

REQUEST_TYPE = "application/vnd.silokit.enrolment+json"
TLS_KEY, TLS_CERTIFICATE, TLS_AUTHORITY = "tls/party.key", "tls/party.crt", "tls/authority.crt"
STORE_CREDENTIALS = "store.json"
"""Where a party keeps, in its home, what it needs on the wire."""
_LIMIT = MAX_ROSTER_BYTES * 2


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Request(_File):
    """What a silo shows of itself: its public keys, and a certificate request (PEM) for the wire."""

    federation: Name
    identity: PublicIdentity
    certificate_request: str


class Admission(_File):
    """What an admitted silo needs.

    Attributes:
        root: the consortium's root key; its fingerprint is for people to compare.
        roster: the signed roster that names the silo, base64.
        authority: the certificate of the federation's authority, PEM.
        certificate: the silo's certificate for the wire, PEM.
        credentials: `StoreCredentials`, sealed to the silo, base64.
    """

    root: VerifyKey
    roster: str
    authority: str
    certificate: str
    credentials: str

    def read_roster(self) -> Roster:
        """The roster, signed by the root that stands beside it.

        Raises:
            TrustError: it is not.
        """
        try:
            return read_roster(base64.b64decode(self.roster, validate=True), self.root)
        except ValueError as error:
            raise _malformed() from error

    def open_credentials(self, identity: Identity, federation: str) -> StoreCredentials:
        """The store credentials, which only this silo can open.

        Raises:
            TrustError: they were sealed to another or for another federation.
        """
        try:
            sealed = base64.b64decode(self.credentials, validate=True)
            return StoreCredentials.model_validate(
                parse_json(identity.sealing.unwrap(sealed, _info(federation, identity.name)))
            )
        except (InvalidArtifact, ValueError) as error:
            raise _malformed() from error


def write_request(identity: Identity, federation: str, certificate_request: bytes, target: Path) -> None:
    """Write a request that proves possession of the signing key."""
    request = Request(federation=federation, identity=identity.public, certificate_request=certificate_request.decode())
    payload = canonical_json(request.model_dump(mode="json"))
    write_atomic(target, dsse.sign(payload, REQUEST_TYPE, identity.signing), mode=0o644)


def read_request(data: bytes, federation: str) -> Request:
    """A silo's request.

    Raises:
        TrustError: it is malformed, not signed by the key it shows, or for another federation.
    """
    try:
        shown = Request.model_validate(parse_json(dsse.peek(data, REQUEST_TYPE, _LIMIT)))
        dsse.verify(data, REQUEST_TYPE, shown.identity.verify, _LIMIT)
    except (InvalidArtifact, ValidationError) as error:
        raise TrustError(
            "the enrolment request does not hold", fix="ask the silo to run `silo-agent enroll` again and to resend it"
        ) from error
    if shown.federation != federation:
        raise TrustError(f"the enrolment request is for {shown.federation}, not for {federation}")
    return shown


def admission(
    federation: str,
    member: PublicIdentity,
    *,
    root: VerifyKey,
    roster: bytes,
    authority: bytes,
    certificate: bytes,
    credentials: StoreCredentials,
) -> bytes:
    """The admission of a member, as the file that is sent to it."""
    sealed = member.seal.wrap(canonical_json(credentials.model_dump(mode="json")), _info(federation, member.name))
    found = Admission(
        root=root,
        roster=base64.b64encode(roster).decode(),
        authority=authority.decode(),
        certificate=certificate.decode(),
        credentials=base64.b64encode(sealed).decode(),
    )
    return canonical_json(found.model_dump(mode="json"))


def read_admission(data: bytes) -> Admission:
    """An admission; the root's fingerprint is the caller's to compare.

    Raises:
        TrustError: it is malformed.
    """
    try:
        return Admission.model_validate(parse_json(data, _LIMIT))
    except (InvalidArtifact, ValueError) as error:
        raise _malformed() from error


def _malformed() -> TrustError:
    return TrustError("the admission file is malformed", fix="ask the consortium to send it again")


def _info(federation: str, name: str) -> bytes:
    return f"silokit/v1/store-credentials/{federation}/{name}".encode()


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
