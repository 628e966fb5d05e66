"""The envelope written a second time, from the format's words alone and with nothing of `services`: forger and judge.

It signs, wraps and encrypts whatever it is told to, right or wrong, and opens what is right. It has no limits and no
manners: never use it outside tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TYPE = "application/vnd.silokit.manifest+json"
MIB = 1 << 20
SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
Change = Callable[[Any], Any]


def spell(value: Any) -> bytes:
    """The one spelling of JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def text_of(payload: bytes) -> str:
    """Standard base64."""
    return base64.standard_b64encode(payload).decode()


@dataclass(frozen=True)
class Party:
    """One party's keys from one short seed."""

    seed: str

    def _bytes(self, label: str, length: int) -> bytes:
        return hashlib.shake_256(f"{self.seed}/{label}".encode()).digest(length)

    @property
    def signing(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._bytes("signing", 32))

    @property
    def signing_id(self) -> str:
        return hashlib.sha256(self.signing.public_key().public_bytes_raw()).hexdigest()

    @property
    def sealing_bytes(self) -> bytes:
        return self._bytes("sealing", 96)

    @property
    def sealing(self) -> MLKEM768X25519PrivateKey:
        raw = self.sealing_bytes
        return MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(raw[:64]), X25519PrivateKey.from_private_bytes(raw[64:])
        )

    @property
    def sealing_id(self) -> str:
        raw = self.sealing_bytes
        kem = MLKEM768PrivateKey.from_seed_bytes(raw[:64]).public_key().public_bytes_raw()
        exchange = X25519PrivateKey.from_private_bytes(raw[64:]).public_key().public_bytes_raw()
        return hashlib.sha256(kem + exchange).hexdigest()


def derive(content_key: bytes, header_hash: bytes, label: str) -> bytes:
    return HKDF(SHA256(), 32, header_hash, f"silokit/v1/{label}".encode()).derive(content_key)


def wrap_info(header_hash: bytes, key_id: str) -> bytes:
    return b"silokit/v1/wrap" + header_hash + bytes.fromhex(key_id)


def pattern(length: int) -> bytes:
    """A payload that everybody knows: SHAKE-256 of its length."""
    return hashlib.shake_256(length.to_bytes(8, "big")).digest(length)


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE."""
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)


@dataclass(frozen=True)
class Chunk:
    """One encrypted piece of a payload: which one it is, and which one it says it is."""

    begin: int
    end: int
    counter: int
    final: bool
    seed: str = ""


def chunks_of(length: int) -> list[Chunk]:
    """The chunks of an honest body."""
    starts = list(range(0, length, MIB)) or [0]
    return [Chunk(b, min(b + MIB, length), i, final=b == starts[-1]) for i, b in enumerate(starts)]


@dataclass(frozen=True)
class Forge:
    """A manifest and its body, with any one part bent before the later parts are made over it.

    Attributes:
        header: changes the header, a dictionary.
        header_text: changes the header's bytes.
        payload: changes the manifest's payload, a dictionary.
        payload_text: changes the payload's bytes, before they are signed.
        outer: changes the DSSE envelope, a dictionary, after signing.
        outer_text: changes its bytes.
    """

    length: int = 11
    chunks: list[Chunk] | None = None
    sender: Party = Party("north")
    recipients: tuple[Party, ...] = (Party("hub"),)
    payload_type: str = TYPE
    content_key: bytes = hashlib.sha256(b"content key").digest()
    header: Change = field(default=lambda value: value)
    header_text: Change = field(default=lambda value: value)
    payload: Change = field(default=lambda value: value)
    payload_text: Change = field(default=lambda value: value)
    outer: Change = field(default=lambda value: value)
    outer_text: Change = field(default=lambda value: value)

    def header_bytes(self) -> bytes:
        return bytes(self.header_text(spell(self.header(self._header()))))

    def _header(self) -> dict[str, Any]:
        return {
            "version": 1,
            "federation": "vectors",
            "run": "run-1",
            "sender": self.sender.seed,
            "kind": "latents",
            "round": 0,
            "sequence": 2,
            "previous": "11" * 32,
            "created": "2026-01-01T00:00:00Z",
            "expires": "2026-01-02T00:00:00Z",
            "recipients": sorted(party.sealing_id for party in self.recipients),
            "schema_hash": "22" * 32,
            "heads": {"audit": "33" * 32},
            "release": {"release": "unprotected", "reason": "a test"},
        }

    def body(self) -> bytes:
        header_hash = hashlib.sha256(self.header_bytes()).digest()
        whole = pattern(self.length)
        pieces = []
        for chunk in chunks_of(self.length) if self.chunks is None else self.chunks:
            key = hashlib.sha256(chunk.seed.encode()).digest() if chunk.seed else self.content_key
            nonce = chunk.counter.to_bytes(11, "big") + bytes([chunk.final])
            cipher = AESGCM(derive(key, header_hash, "payload"))
            pieces.append(cipher.encrypt(nonce, whole[chunk.begin : chunk.end], header_hash))
        return b"".join(pieces)

    def manifest(self) -> bytes:
        header_bytes = self.header_bytes()
        header_hash = hashlib.sha256(header_bytes).digest()
        body = self.body()
        payload = self.payload(
            {
                "header": header_bytes.decode(),
                "wrapped": {
                    party.sealing_id: text_of(
                        SUITE.encrypt(
                            self.content_key, party.sealing.public_key(), wrap_info(header_hash, party.sealing_id)
                        )
                    )
                    for party in self.recipients
                },
                "commitment": derive(self.content_key, header_hash, "commitment").hex(),
                "body_sha256": hashlib.sha256(body).hexdigest(),
                "body_length": len(body),
            }
        )
        return sign(bytes(self.payload_text(spell(payload))), self)


def sign(payload: bytes, forge: Forge) -> bytes:
    """A DSSE envelope over the payload, bent as the forge says."""
    signature = forge.sender.signing.sign(pre_authentication(forge.payload_type, payload))
    outer = {
        "payload": text_of(payload),
        "payloadType": forge.payload_type,
        "signatures": [{"keyid": forge.sender.signing_id, "sig": text_of(signature)}],
    }
    return bytes(forge.outer_text(spell(forge.outer(outer))))


def open_by_the_words(manifest: bytes, body: bytes, sender: Ed25519PublicKey, recipient: Party) -> bytes:
    """What an honest artifact holds; raises whatever it raises on any other."""
    outer = json.loads(manifest)
    payload = base64.b64decode(outer["payload"])
    sender.verify(base64.b64decode(outer["signatures"][0]["sig"]), pre_authentication(outer["payloadType"], payload))
    said = json.loads(payload)
    header_hash = hashlib.sha256(said["header"].encode()).digest()
    wrapped = base64.b64decode(said["wrapped"][recipient.sealing_id])
    content_key = SUITE.decrypt(wrapped, recipient.sealing, wrap_info(header_hash, recipient.sealing_id))
    assert derive(content_key, header_hash, "commitment").hex() == said["commitment"]
    assert (hashlib.sha256(body).hexdigest(), len(body)) == (said["body_sha256"], said["body_length"])
    cipher = AESGCM(derive(content_key, header_hash, "payload"))
    pieces = list(_split(body))
    return b"".join(
        cipher.decrypt(i.to_bytes(11, "big") + bytes([i == len(pieces) - 1]), piece, header_hash)
        for i, piece in enumerate(pieces)
    )


def _split(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), MIB + 16):
        yield body[start : start + MIB + 16]
