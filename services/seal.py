"""Stand-in by the house while the real one is written: replaced as a whole."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services import dsse
from services.artifact import MAX_MANIFEST_BYTES, Header, canonical_json, digest, parse_header, parse_json
from services.errors import InvalidArtifact
from services.files import sync_folder
from services.keys import SealingKey, SealTo, SigningKey, VerifyKey

TYPE = "application/vnd.silokit.manifest+json"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Manifest:
    header: Header
    header_hash: bytes
    digest: str
    wrapped: dict[str, bytes]
    commitment: str
    body_sha256: str
    body_length: int


def _derive(key: bytes, h: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), 32, h, b"silokit/v1/" + label).derive(key)


def seal(source: Path | bytes, header: Header, recipients: Sequence[SealTo], signer: SigningKey, body: Path) -> bytes:
    text = canonical_json(header.model_dump(mode="json"))
    h = hashlib.sha256(text).digest()
    content = os.urandom(32)
    data = source if isinstance(source, bytes) else source.read_bytes()
    aead = AESGCM(_derive(content, h, b"payload"))
    n = max(1, -(-len(data) // CHUNK))
    sha = hashlib.sha256()
    length = 0
    with body.open("wb") as out:
        for i in range(n):
            c = aead.encrypt(i.to_bytes(11, "big") + bytes([i == n - 1]), data[i * CHUNK : (i + 1) * CHUNK], h)
            sha.update(c)
            length += len(c)
            out.write(c)
        out.flush()
        os.fsync(out.fileno())
    payload = canonical_json(
        {
            "header": text.decode(),
            "wrapped": {
                r.key_id: base64.b64encode(r.wrap(content, b"silokit/v1/wrap" + h + r.key_id.encode())).decode()
                for r in recipients
            },
            "commitment": _derive(content, h, b"commitment").hex(),
            "body_sha256": sha.hexdigest(),
            "body_length": length,
        }
    )
    return dsse.sign(payload, TYPE, signer)


def read_manifest(data: bytes) -> Manifest:
    return _parse(data, dsse.peek(data, TYPE, MAX_MANIFEST_BYTES))


def verify(data: bytes, key: VerifyKey) -> Manifest:
    return _parse(data, dsse.verify(data, TYPE, key, MAX_MANIFEST_BYTES))


def _parse(data: bytes, payload: bytes) -> Manifest:
    value = parse_json(payload)
    try:
        text = value["header"].encode()
        return Manifest(
            parse_header(text),
            hashlib.sha256(text).digest(),
            digest(data),
            {k: base64.b64decode(v, validate=True) for k, v in value["wrapped"].items()},
            value["commitment"],
            value["body_sha256"],
            int(value["body_length"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidArtifact("the manifest is malformed") from None


def open_sealed(manifest: Manifest, body: Path, keys: Sequence[SealingKey], target: Path) -> None:
    data = body.read_bytes()
    if len(data) != manifest.body_length or hashlib.sha256(data).hexdigest() != manifest.body_sha256:
        raise InvalidArtifact("the body is not what the manifest promises")
    key = next(k for k in keys if k.public.key_id in manifest.wrapped)
    kid = key.public.key_id
    content = key.unwrap(manifest.wrapped[kid], b"silokit/v1/wrap" + manifest.header_hash + kid.encode())
    if not hmac.compare_digest(_derive(content, manifest.header_hash, b"commitment").hex(), manifest.commitment):
        raise InvalidArtifact("the key commitment does not hold")
    aead = AESGCM(_derive(content, manifest.header_hash, b"payload"))
    size = CHUNK + 16
    n = max(1, -(-len(data) // size))
    tmp = target.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        with tmp.open("wb") as out:
            for i in range(n):
                try:
                    out.write(
                        aead.decrypt(
                            i.to_bytes(11, "big") + bytes([i == n - 1]),
                            data[i * size : (i + 1) * size],
                            manifest.header_hash,
                        )
                    )
                except InvalidTag:
                    raise InvalidArtifact("a chunk does not authenticate") from None
            os.fsync(out.fileno())
        tmp.rename(target)
        sync_folder(target.parent)
    finally:
        tmp.unlink(missing_ok=True)
