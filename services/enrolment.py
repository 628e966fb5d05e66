"""Enrolment files: a signed request that shows a silo's public keys, and an admission that carries what it then needs.

The request carries a certificate request too, the admission the certificate, and credentials for the store sealed to
the silo. No private key travels, neither file is secret, and neither is believed for its own sake: people compare the
fingerprints out of band. A member that changes its keys has its request vouched for by the key that it gives up.
"""

from __future__ import annotations

import base64
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from services import dsse
from services.artifact import Name, canonical_json, parse_json
from services.documents import read_document, write_document
from services.errors import InvalidArtifact, TrustError
from services.keyring import KeyRing
from services.keys import PublicIdentity, SigningKey, VerifyKey
from services.store.credentials import StoreCredentials

REQUEST_TYPE = "application/vnd.silokit.enrolment+json"
VOUCHED_TYPE = "application/vnd.silokit.vouched-enrolment+json"
TLS_KEY, TLS_CERTIFICATE, TLS_AUTHORITY = "tls/party.key", "tls/party.crt", "tls/authority.crt"
STORE_CREDENTIALS = "store.json"
"""Where a party keeps, in its home, what it needs on the wire."""
_LIMIT = 1 << 20


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Request(_File):
    """What a silo shows of itself: its public keys, and a certificate request (PEM) for the wire."""

    federation: Name
    identity: PublicIdentity
    certificate_request: str


class Vouched(_File):
    """A request, and the key that its silo gives up for the ones in it."""

    request: str
    former: VerifyKey


class Admission(_File):
    """What an admitted silo needs.

    Attributes:
        root: the consortium's signed root; its fingerprint is for people to compare.
        authority: the certificate of the federation's authority, PEM.
        certificate: the silo's certificate for the wire, PEM.
        credentials: `StoreCredentials`, sealed to the silo, base64.
    """

    root: str
    authority: str
    certificate: str
    credentials: str

    def open_credentials(self, ring: KeyRing, federation: str) -> StoreCredentials:
        """The store credentials, which only this silo can open.

        Raises:
            TrustError: they were sealed to another or for another federation.
        """
        for key in ring.openers:
            try:
                sealed = base64.b64decode(self.credentials, validate=True)
                return StoreCredentials.model_validate(parse_json(key.unwrap(sealed, _info(federation, ring.name))))
            except (InvalidArtifact, ValueError):
                continue
        raise TrustError(
            f"the admission was not made for the keys of {ring.name} in {federation}",
            fix="send the enrolment request again, and ask for an admission made from it",
        )


def write_request(
    identity: PublicIdentity, signing: SigningKey, federation: str, certificate_request: bytes, target: Path,
    *, former: SigningKey | None = None,
) -> None:  # fmt: skip
    """Write a request that proves possession of the signing key, and of the former one that vouches for it."""
    request = Request(federation=federation, identity=identity, certificate_request=certificate_request.decode())
    data = dsse.sign(canonical_json(request.model_dump(mode="json")), REQUEST_TYPE, signing)
    if former is not None:
        vouched = Vouched(request=data.decode(), former=former.public)
        data = dsse.sign(canonical_json(vouched.model_dump(mode="json")), VOUCHED_TYPE, former)
    write_document(target, data)


def read_request(data: bytes, federation: str) -> tuple[Request, VerifyKey | None]:
    """A silo's request, and the key that vouches for it when the silo gives that up.

    Raises:
        TrustError: it is malformed, not signed by the keys it shows, or for another federation.
    """
    former = None
    try:
        if dsse.type_of(data, _LIMIT) == VOUCHED_TYPE:
            vouched = Vouched.model_validate(parse_json(dsse.peek(data, VOUCHED_TYPE, _LIMIT), _LIMIT))
            former = vouched.former
            dsse.verify(data, VOUCHED_TYPE, former, _LIMIT)
            data = vouched.request.encode()
        shown = Request.model_validate(parse_json(dsse.peek(data, REQUEST_TYPE, _LIMIT), _LIMIT))
        dsse.verify(data, REQUEST_TYPE, shown.identity.verify, _LIMIT)
    except (InvalidArtifact, ValidationError) as error:
        raise TrustError(
            "the enrolment request does not hold", fix="ask the silo to run `silo-agent enroll` again and to resend it"
        ) from error
    if shown.federation != federation:
        raise TrustError(f"the enrolment request is for {shown.federation}, not for {federation}")
    return shown, former


def admission(
    federation: str,
    member: PublicIdentity,
    *,
    root: bytes,
    authority: bytes,
    certificate: bytes,
    credentials: StoreCredentials,
) -> bytes:
    """The admission of a member, as the file that is sent to it."""
    sealed = member.seal.wrap(canonical_json(credentials.model_dump(mode="json")), _info(federation, member.name))
    found = Admission(
        root=root.decode(),
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
        raise TrustError("the admission file is malformed", fix="ask the consortium to send it again") from error


def _info(federation: str, name: str) -> bytes:
    return f"silokit/v1/store-credentials/{federation}/{name}".encode()


def read_limited(path: Path) -> bytes:
    """An enrolment file from somebody else, or standard input, up to a limit.

    Raises:
        TrustError: it is absent or too large.
    """
    return read_document(path, _LIMIT)
