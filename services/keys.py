"""A party's keys: made here, kept here, shown to others only by their public halves.

- Signatures are Ed25519 (RFC 8032); encryption keys are the hybrid HPKE keys of `services.hpke`.
- A key's id is the SHA-256 of its raw public bytes: nobody chooses an id, and equal ids are equal keys.
- Private keys lie in files that only their owner can read, and are never in an error, a log or a `repr`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, ConfigDict, RootModel
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey  # type: ignore[attr-defined] # not in its __all__

from services import hpke
from services.artifact import Name, canonical_json, digest
from services.errors import TrustError
from services.files import sync_folder, write_atomic
from services.keyfile import read_private, read_public, write_private


def _bytes_of(text: str) -> bytes:
    # bytes.fromhex alone would accept blanks and capitals, and one key would have many spellings
    raw = bytes.fromhex(text)
    if raw.hex() != text:
        raise ValueError("a key is written in lower-case hexadecimal")
    return raw


def _check_verify(text: str) -> str:
    Ed25519PublicKey.from_public_bytes(_bytes_of(text))
    return text


def _check_seal(text: str) -> str:
    hpke.check_public(_bytes_of(text))
    return text


class _PublicKey(RootModel[str]):
    model_config = ConfigDict(frozen=True)

    @property
    def hex(self) -> str:
        """The raw public bytes in lower-case hexadecimal: the form in which keys stand in JSON."""
        return self.root

    @property
    def raw(self) -> bytes:
        """The raw public bytes."""
        return bytes.fromhex(self.root)

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw public bytes."""
        return digest(self.raw)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Take raw public bytes.

        Raises:
            ValueError: they are no key of this kind.
        """
        return cls(raw.hex())


class VerifyKey(_PublicKey):
    """The public half of a signing key: 32 bytes, 64 digits in JSON; anything else is a ValueError."""

    root: Annotated[str, AfterValidator(_check_verify)]

    def sslib(self) -> SSlibKey:
        """The same key as securesystemslib (DSSE, TUF) takes it."""
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(self.raw), keyid=self.key_id)


class SealTo(_PublicKey):
    """The public half of an encryption key: 1216 bytes of `services.hpke`; anything else is a ValueError."""

    root: Annotated[str, AfterValidator(_check_seal)]

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """Encrypt a short secret to this key; see `hpke.wrap`."""
        return hpke.wrap(self.raw, secret, info)


@dataclass(frozen=True, repr=False, eq=False)
class SigningKey:
    """A private Ed25519 key."""

    _private: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, private: bytes) -> Self:
        """Take the 32 bytes of `to_bytes`.

        Raises:
            ValueError: another length.
        """
        return cls(Ed25519PrivateKey.from_private_bytes(private))

    def to_bytes(self) -> bytes:
        """The 32 private bytes."""
        return self._private.private_bytes_raw()

    @cached_property
    def public(self) -> VerifyKey:
        """The key that others verify with."""
        return VerifyKey.from_bytes(self._private.public_key().public_bytes_raw())

    def signer(self) -> Signer:
        """The same key as securesystemslib (DSSE, TUF) takes it."""
        return CryptoSigner(self._private, self.public.sslib())


@dataclass(frozen=True, repr=False, eq=False)
class SealingKey:
    """A private HPKE key: long-lived in an identity, or a run key that is destroyed with its run."""

    _private: bytes

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key."""
        return cls(hpke.generate())

    @classmethod
    def from_bytes(cls, private: bytes) -> Self:
        """Take the 96 bytes of `to_bytes`.

        Raises:
            ValueError: another length.
        """
        hpke.public_of(private)
        return cls(private)

    def to_bytes(self) -> bytes:
        """The 96 private bytes."""
        return self._private

    @cached_property
    def public(self) -> SealTo:
        """The key that others seal to."""
        return SealTo.from_bytes(hpke.public_of(self._private))

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """Undo `SealTo.wrap`.

        Raises:
            InvalidArtifact: it was wrapped to another key or for another `info`, or was altered.
        """
        return hpke.unwrap(self._private, wrapped, info)


class PublicIdentity(BaseModel):
    """What a party shows of itself; `verify` and `seal` are its public keys in hexadecimal where it is JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    verify: VerifyKey
    seal: SealTo

    def fingerprint(self) -> str:
        """See `fingerprint`; it covers the name and both keys."""
        return fingerprint(canonical_json(self.model_dump(mode="json")))


def fingerprint(data: bytes) -> str:
    """What people compare over the telephone: 160 bits of SHA-256 as eight groups of four letters and digits.

    The alphabet is base32's (RFC 4648, section 6), which has no 0, 1 or 8 to mistake for letters.
    """
    text = base64.b32encode(hashlib.sha256(data).digest()[:20]).decode()
    return " ".join(text[start : start + 4] for start in range(0, 32, 4))


@dataclass(frozen=True)
class Identity:
    """A party's name and its long-lived private keys, in one folder."""

    name: str
    signing: SigningKey
    sealing: SealingKey

    @property
    def public(self) -> PublicIdentity:
        """What the party shows of itself."""
        return PublicIdentity(name=self.name, verify=self.signing.public, seal=self.sealing.public)

    @classmethod
    def create(cls, folder: Path, name: str) -> Self:
        """Draw a new identity into a folder that does not exist yet or is empty; it appears whole or not at all.

        Raises:
            TrustError: the folder holds something already.
        """
        identity = cls(name, SigningKey.generate(), SealingKey.generate())
        staging = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
        staging.mkdir(mode=0o700, parents=True)
        try:
            save_private(staging / "signing.key", identity.signing)
            save_private(staging / "sealing.key", identity.sealing)
            write_atomic(staging / "identity.json", canonical_json(identity.public.model_dump(mode="json")), mode=0o644)
            staging.rename(folder)
        except OSError as error:
            if not folder.exists():
                raise
            raise TrustError(
                f"{folder} holds something already", fix="keep that identity, or move it away first", kept="its keys"
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        sync_folder(folder.parent)
        return identity

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an identity that `create` wrote.

        Raises:
            TrustError: a file is absent, readable by others, damaged, or of another identity.
        """
        public = read_public(folder / "identity.json", PublicIdentity)
        identity = cls(public.name, load_signing(folder / "signing.key"), load_sealing(folder / "sealing.key"))
        if identity.public != public:
            raise TrustError(f"the keys in {folder} are not of one identity", fix="restore the folder from one backup")
        return identity


def save_private(path: Path, key: SigningKey | SealingKey) -> None:
    """Write a private key durably into a new file that only its owner can read.

    Raises:
        TrustError: the file exists.
    """
    write_private(path, "signing" if isinstance(key, SigningKey) else "sealing", key.to_bytes())


def load_signing(path: Path) -> SigningKey:
    """Read a signing key.

    Raises:
        TrustError: the file is absent, readable by others, damaged, or of another kind.
    """
    return SigningKey.from_bytes(read_private(path, "signing", 32))


def load_sealing(path: Path) -> SealingKey:
    """Read an encryption key.

    Raises:
        TrustError: as `load_signing`.
    """
    return SealingKey.from_bytes(read_private(path, "sealing", 96))


def destroy(path: Path) -> None:
    """Overwrite a private key and remove it; fine when it is gone already.

    On a file system that copies on write, or on flash, old blocks may outlive the overwriting: run such hosts on an
    encrypted disk.
    """
    try:
        with path.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    path.unlink()
    sync_folder(path.parent)
