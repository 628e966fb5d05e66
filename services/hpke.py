"""Encryption to a public key: single-shot HPKE (RFC 9180) in one hybrid suite, bytes in and bytes out.

ML-KEM-768 (FIPS 203) with X25519, HKDF-SHA-256, AES-256-GCM: what is sealed stays closed unless both halves of the
exchange fall, so a recording made today does not wait for a quantum computer.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from services.errors import InvalidArtifact

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SEED_BYTES = 64
_KEM_PUBLIC_BYTES = 1184

WRAPPED_KEY_BYTES = KEM.MLKEM768_X25519.enc_length() + 32 + 16
"""Length of a wrapped 256-bit key: the encapsulation, the encrypted key and its tag."""


def generate() -> bytes:
    """Draw a private key: the ML-KEM seed (64 bytes), then the X25519 key (32)."""
    return MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()


def public_of(private: bytes) -> bytes:
    """The public bytes of a private key: ML-KEM-768 (1184), then X25519 (32).

    Raises:
        ValueError: the private key has another length.
    """
    kem, exchange = _private(private)
    return kem.public_key().public_bytes_raw() + exchange.public_key().public_bytes_raw()


def check_public(public: bytes) -> None:
    """Refuse what nothing could be wrapped to.

    Raises:
        ValueError: another length, coefficients outside the field, or a point of low order. The latter loads, but
            cannot be used: without this trial a stranger's bad key would fail a later sealing.
    """
    _, exchange = _public(public)
    X25519PrivateKey.generate().exchange(exchange)


def wrap(public: bytes, secret: bytes, info: bytes) -> bytes:
    """Encrypt a short secret to a public key, bound to `info` (RFC 9180, section 6.1); encapsulation and ciphertext."""
    return _SUITE.encrypt(secret, MLKEM768X25519PublicKey(*_public(public)), info)


def unwrap(private: bytes, wrapped: bytes, info: bytes) -> bytes:
    """Undo `wrap`.

    Raises:
        InvalidArtifact: it was wrapped to another key or for another `info`, or was altered.
    """
    try:
        return _SUITE.decrypt(wrapped, MLKEM768X25519PrivateKey(*_private(private)), info)
    except InvalidTag:
        raise InvalidArtifact("a wrapped key does not open: it was altered or taken from elsewhere") from None


def _private(raw: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    return (
        MLKEM768PrivateKey.from_seed_bytes(raw[:_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(raw[_SEED_BYTES:]),
    )


def _public(raw: bytes) -> tuple[MLKEM768PublicKey, X25519PublicKey]:
    return (
        MLKEM768PublicKey.from_public_bytes(raw[:_KEM_PUBLIC_BYTES]),
        X25519PublicKey.from_public_bytes(raw[_KEM_PUBLIC_BYTES:]),
    )
