"""Signed documents: DSSE envelopes (securesystemslib, Ed25519) with one signature and exactly one spelling.

Whoever verifies names the payload type and the key; the key id inside the envelope is only a hint. An envelope that
could be written otherwise (other key order, blanks, base64 variants) is refused, so that one document has one digest.
"""

from __future__ import annotations

import base64
import binascii

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature  # type: ignore[attr-defined] # not in its __all__

from services.artifact import canonical_json, parse_json
from services.errors import BadSignature, InvalidArtifact
from services.keys import SigningKey, VerifyKey

_VALUES = 16
"""The most values of an envelope, by which another one is refused before it is parsed: a whole one has seven."""


def sign(payload: bytes, payload_type: str, key: SigningKey) -> bytes:
    """Sign exact bytes; returns the envelope in its one spelling."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(key.signer())
    return canonical_json(envelope.to_dict())


def type_of(data: bytes, limit: int) -> str:
    """What an envelope says that it holds, *without* judging its signature.

    Raises:
        InvalidArtifact: the envelope is too large, malformed, or not in its one spelling.
    """
    return str(_parse(data, limit).payload_type)


def peek(data: bytes, payload_type: str, limit: int) -> bytes:
    """The payload of an envelope that has one spelling, *without* judging its signature.

    Raises:
        InvalidArtifact: the envelope is too large, malformed, of another type, or spelt in another way.
    """
    envelope = _parse_as(data, payload_type, limit)
    return bytes(envelope.payload)


def verify(data: bytes, payload_type: str, key: VerifyKey, limit: int) -> bytes:
    """The payload of an envelope that `key` signed.

    Raises:
        InvalidArtifact: as `peek`.
        BadSignature: the signature does not hold under this key.
    """
    envelope = _parse_as(data, payload_type, limit)
    try:
        envelope.verify([key.sslib()], threshold=1)
    except VerificationError:
        raise BadSignature("the signature does not hold") from None
    return bytes(envelope.payload)


def _parse_as(data: bytes, payload_type: str, limit: int) -> Envelope:
    envelope = _parse(data, limit)
    if envelope.payload_type != payload_type:
        raise InvalidArtifact("the signed envelope is of another type")
    return envelope


def _parse(data: bytes, limit: int) -> Envelope:
    value = parse_json(data, limit, _VALUES)
    try:
        (signature,) = value["signatures"]
        envelope = Envelope(
            base64.b64decode(value["payload"], validate=True),
            value["payloadType"],
            {
                signature["keyid"]: Signature(
                    signature["keyid"], base64.b64decode(signature["sig"], validate=True).hex()
                )
            },
        )
        spelt = canonical_json(envelope.to_dict())
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise InvalidArtifact("the signed envelope is malformed") from None
    if spelt != data:
        raise InvalidArtifact("the signed envelope is not in its one spelling")
    return envelope
