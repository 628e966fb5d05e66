"""The sealed envelope, format v1: who holds the store can neither read an artifact, nor forge or alter one unnoticed.

An artifact is two files. The *manifest* is small, signed and readable by all: the header, the content key wrapped to
each recipient, and the body's length and digest. The *body* is the encrypted payload. A receiver judges signature,
sender and recipients by the manifest alone, before it fetches a body whose length it then knows.

With H = SHA-256 of the header's exact bytes and a content key that is fresh for every sealing:

- wrapped key = HPKE to the recipient, info = "silokit/v1/wrap" || H || recipient's key id (32 raw bytes)
- payload key = HKDF-SHA-256(content key, salt = H, info = "silokit/v1/payload")
- commitment  = HKDF-SHA-256(content key, salt = H, info = "silokit/v1/commitment"). AES-GCM does not commit to its key:
  without this, a sender could make one body that two recipients open to different payloads.
- body = the payload, encrypted under the payload key with AAD = H, as `services.chunks` says.
- manifest = {"header", "wrapped", "commitment", "body_sha256", "body_length"}, signed as DSSE.

There is one suite and one spelling: what could be written otherwise is refused, so an artifact has one digest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

from services import chunks, dsse
from services.artifact import (
    MAX_ARTIFACT_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_MANIFEST_VALUES,
    Digest,
    Header,
    canonical_json,
    digest,
    parse_header,
    parse_json,
)
from services.errors import InvalidArtifact
from services.files import sync_folder
from services.hpke import WRAPPED_KEY_BYTES
from services.keys import SealingKey, SealTo, SigningKey, VerifyKey

MANIFEST_TYPE = "application/vnd.silokit.manifest+json"


@dataclass(frozen=True)
class Claim:
    """What a manifest says, before anybody vouches for it.

    Attributes:
        header: everything known before encryption.
        header_hash: H, the SHA-256 of the header's exact bytes (32 bytes).
        digest: the artifact's digest, the SHA-256 of the manifest's exact bytes.
        wrapped: the wrapped content key by recipient's key id.
        commitment: to the content key (32 bytes).
        body_sha256: of the body's bytes.
        body_length: in bytes.
    """

    header: Header
    header_hash: bytes
    digest: str
    wrapped: dict[str, bytes]
    commitment: bytes
    body_sha256: str
    body_length: int


@dataclass(frozen=True)
class Manifest(Claim):
    """A manifest whose signature was verified: only such a one opens."""


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    header: str
    wrapped: dict[Digest, Annotated[Base64Bytes, Field(min_length=WRAPPED_KEY_BYTES, max_length=WRAPPED_KEY_BYTES)]]
    commitment: Digest
    body_sha256: Digest
    body_length: int = Field(ge=chunks.TAG, le=MAX_ARTIFACT_BYTES)


def seal(source: Path | bytes, header: Header, recipients: Sequence[SealTo], signer: SigningKey, body: Path) -> bytes:
    """Encrypt a payload to its recipients and sign for it, under a content key that is drawn for this sealing.

    Args:
        source: the payload, a file or bytes.
        header: what is known of the artifact; its `recipients` are the sorted key ids of `recipients`.
        recipients: whom the payload is for.
        signer: the sender's key.
        body: where the body is written, durably; it appears whole or not at all.

    Returns:
        The manifest's bytes.

    Raises:
        ValueError: the header names other recipients.
        InvalidArtifact: the artifact would exceed the format's limits, or the payload changed meanwhile.
        OSError: the disk is full or fails.
    """
    if header.recipients != tuple(sorted({key.key_id for key in recipients})):
        raise ValueError("the header must name the recipients' key ids, sorted")
    header_bytes = canonical_json(header.model_dump(mode="json"))
    header_hash = hashlib.sha256(header_bytes).digest()
    content_key = os.urandom(32)
    with _opened(source) as (plain, length), _appearing(body) as out:
        if chunks.body_length(length) > MAX_ARTIFACT_BYTES:
            raise InvalidArtifact(f"a payload of {length} bytes exceeds the format's limit of 4 GiB")
        content = {
            "header": header_bytes.decode(),
            "wrapped": {key.key_id: _wrap(key, content_key, header_hash) for key in recipients},
            "commitment": _derive(content_key, header_hash, "commitment").hex(),
            "body_sha256": chunks.encrypt(
                plain, length, _derive(content_key, header_hash, "payload"), header_hash, out
            ),
            "body_length": chunks.body_length(length),
        }
        manifest = dsse.sign(canonical_json(content), MANIFEST_TYPE, signer)
        # nothing leaves that a receiver would refuse
        verify(manifest, signer.public)
    return manifest


def read_manifest(data: bytes) -> Claim:
    """Read a manifest that nobody vouches for yet: enough to say who claims to have sent it.

    Raises:
        InvalidArtifact: it exceeds a limit, is not of format v1, or is not in its one spelling.
    """
    return _parse(data, dsse.peek(data, MANIFEST_TYPE, MAX_MANIFEST_BYTES), Claim)


def verify(data: bytes, key: VerifyKey) -> Manifest:
    """Read a manifest that the holder of `key` signed.

    Raises:
        InvalidArtifact: as `read_manifest`, or the signature does not hold.
    """
    return _parse(data, dsse.verify(data, MANIFEST_TYPE, key, MAX_MANIFEST_BYTES), Manifest)


def open_sealed(manifest: Manifest, body: Path, keys: Sequence[SealingKey], target: Path) -> None:
    """Decrypt a body that was sealed to one of our keys.

    Args:
        manifest: the verified manifest.
        body: the body's file.
        keys: the private keys held here.
        target: where the payload appears, durably and with mode 0600, once all of it was verified. After a crash
            there may be a `<target>.part`, which the next opening replaces.

    Raises:
        InvalidArtifact: it is sealed to others, or the body is not what the sender signed; nothing is left behind.
        OSError: the disk is full or fails; nothing is left behind.
    """
    content_key = _unwrap(manifest, keys)
    if not hmac.compare_digest(_derive(content_key, manifest.header_hash, "commitment"), manifest.commitment):
        raise InvalidArtifact("the content key is not the one that the manifest commits to")
    payload_key = _derive(content_key, manifest.header_hash, "payload")
    with _opened(body) as (sealed, length), _appearing(target) as out:
        if length != manifest.body_length:
            fault = "truncated" if length < manifest.body_length else "too long"
            raise InvalidArtifact(
                f"the body is {fault}: it has {length} bytes, the manifest says {manifest.body_length}"
            )
        plain_length = chunks.payload_length(length)
        found = chunks.decrypt(sealed, plain_length, payload_key, manifest.header_hash, out)
        if found != manifest.body_sha256:
            raise InvalidArtifact("the body is not the one that the manifest names by its SHA-256")


_Claim = TypeVar("_Claim", bound=Claim)


def _parse(data: bytes, payload: bytes, kind: type[_Claim]) -> _Claim:
    value = parse_json(payload, most=MAX_MANIFEST_VALUES)
    try:
        content = _Payload.model_validate(value)
        spelt = canonical_json(content.model_dump(mode="json"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][:1])[:32]
        raise InvalidArtifact(f"the manifest is malformed: {where}: {first['msg']}") from None
    except ValueError:
        raise InvalidArtifact("the manifest is malformed: it is not text") from None
    header_bytes = content.header.encode()
    header = parse_header(header_bytes)
    if (spelt, header_bytes) != (payload, canonical_json(header.model_dump(mode="json"))):
        raise InvalidArtifact("the manifest is not in its one spelling")
    if header.recipients != tuple(sorted(content.wrapped)):
        raise InvalidArtifact("the header's recipients are not those that the content key is wrapped to")
    chunks.payload_length(content.body_length)
    return kind(
        header=header,
        header_hash=hashlib.sha256(header_bytes).digest(),
        digest=digest(data),
        wrapped=content.wrapped,
        commitment=bytes.fromhex(content.commitment),
        body_sha256=content.body_sha256,
        body_length=content.body_length,
    )


def _wrap(key: SealTo, content_key: bytes, header_hash: bytes) -> str:
    return base64.b64encode(key.wrap(content_key, _wrap_info(header_hash, key.key_id))).decode()


def _unwrap(manifest: Manifest, keys: Sequence[SealingKey]) -> bytes:
    for key in keys:
        if (key_id := key.public.key_id) in manifest.wrapped:
            return key.unwrap(manifest.wrapped[key_id], _wrap_info(manifest.header_hash, key_id))
    raise InvalidArtifact("the artifact is sealed to none of the keys held here")


def _wrap_info(header_hash: bytes, key_id: str) -> bytes:
    return b"silokit/v1/wrap" + header_hash + bytes.fromhex(key_id)


def _derive(content_key: bytes, header_hash: bytes, label: str) -> bytes:
    return HKDF(SHA256(), 32, salt=header_hash, info=f"silokit/v1/{label}".encode()).derive(content_key)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[io.BufferedIOBase, int]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
    else:
        with source.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A private file that appears durably under its name when the block ends well, and not at all otherwise."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with _Eager(io.FileIO(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


class _Eager(io.BufferedWriter):
    """A file whose bytes set out for the disk while later ones are still computed, so that the last fsync is short."""

    _STRIDE = 16 << 20
    _started = 0

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        if sys.platform == "linux" and (end := self.tell()) - self._started >= self._STRIDE:
            # "don't need" starts writing dirty pages and does not wait; they stay cached while they are written
            os.posix_fadvise(self.fileno(), self._started, end - self._started, os.POSIX_FADV_DONTNEED)
            self._started = end
        return written
