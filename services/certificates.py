"""X.509 certificates for the way to broker and store: made at the party, signed by the federation's authority.

A private key is written once, mode 0600, and never leaves its machine: what travels is a certificate request, and
what comes back is a certificate. The authority takes nothing from a request but the public key: name, hosts, purpose
and lifetime are its own words. These certificates open a connection; what is said over it is sealed and signed with
the keys of `services.keys`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.errors import TrustError
from services.files import others_can_read, write_atomic

Key = ec.EllipticCurvePrivateKey
AUTHORITY_DAYS = 3650
DAYS = 365
SKEW = timedelta(hours=1)  # a certificate is valid a little before it is made, for clocks that are behind
MAX_PEM_BYTES = 1 << 16
KEY_FILE, CERTIFICATE_FILE = "authority.key", "authority.crt"


def make_key() -> Key:
    """A new private key on the curve P-256, which every TLS library of the last decade speaks."""
    return ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, key: Key) -> None:
    """Write a private key into a new file of mode 0600.

    Raises:
        TrustError: the file exists.
    """
    if path.exists():
        raise TrustError(f"there is a key at {path} already", fix="move it away first", kept="the existing key")
    write_atomic(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def read_key(path: Path) -> Key:
    """Read a private key.

    Raises:
        TrustError: the file is absent, readable by others, or holds no P-256 key.
    """
    try:
        with path.open("rb") as file:
            if others_can_read(file):
                raise TrustError(f"the private key {path} can be read by others", fix=f"chmod 600 {path}")
            key = load_pem_private_key(file.read(MAX_PEM_BYTES), None)
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
    except (ValueError, TypeError):
        # without the cause, which may quote the key
        raise TrustError(f"{path} holds no private key", fix="restore it from its backup, or make a new one") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustError(f"{path} is no key on the curve P-256", fix="make a new one and have it signed")
    return key


def request(key: Key, name: str) -> bytes:
    """A certificate request, in PEM, that shows `key`'s public half and proves that the private one is held."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(name))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate; the first, where the file holds a chain.

    Raises:
        TrustError: the file is absent or holds none.
    """
    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificate(file.read(MAX_PEM_BYTES))
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
    except ValueError as error:
        raise TrustError(f"{path} holds no certificate", fix="ask the consortium to sign a request anew") from error


def common_name(certificate: x509.Certificate) -> str:
    """The name that a certificate's holder bears; empty when it says none or several."""
    return _only_name(certificate.subject)


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Days until a certificate expires; negative once it has."""
    return (certificate.not_valid_after_utc - now) / timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """The federation's certificate authority: whom it has signed, broker and store let in under that name.

    Args:
        key: its private key; kept where nobody else reads, at the consortium.
        certificate: its certificate, given to every party and server.
    """

    key: Key
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str, now: datetime | None = None) -> Self:
        """Found an authority that signs parties and servers, but no further authority."""
        key = make_key()
        certificate = (
            _draft(_subject(name), key.public_key(), AUTHORITY_DAYS, now)
            .issuer_name(_subject(name))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the authority from its folder.

        Raises:
            TrustError: it is absent, damaged, or its key can be read by others.
        """
        key, certificate = read_key(folder / KEY_FILE), read_certificate(folder / CERTIFICATE_FILE)
        if certificate.public_key() != key.public_key():
            raise TrustError(f"key and certificate in {folder} do not belong together", fix="restore both from backup")
        return cls(key, certificate)

    def save(self, folder: Path) -> None:
        """Write the authority into a folder that holds none yet.

        Raises:
            TrustError: there is one.
        """
        write_key(folder / KEY_FILE, self.key)
        write_atomic(folder / CERTIFICATE_FILE, self.pem, mode=0o644)

    @property
    def pem(self) -> bytes:
        """The authority's certificate: public."""
        return self.certificate.public_bytes(Encoding.PEM)

    def sign_party(self, csr: bytes, name: str, *, days: float = DAYS, now: datetime | None = None) -> bytes:
        """Sign a party's request: a certificate with which it may connect as `name`, and that serves nothing.

        Raises:
            TrustError: the request does not hold, or is not `name`'s.
        """
        draft = _draft(_subject(name), _requested_key(csr, name), days, now)
        return self._sign(draft, ExtendedKeyUsageOID.CLIENT_AUTH)

    def sign_server(
        self, csr: bytes, name: str, hosts: Sequence[str], *, days: float = DAYS, now: datetime | None = None
    ) -> bytes:
        """Sign a server's request: a certificate for these host names and addresses, with which nobody logs in.

        Raises:
            TrustError: the request does not hold, or is not `name`'s.
        """
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        draft = _draft(_subject(name), _requested_key(csr, name), days, now).add_extension(names, critical=False)
        return self._sign(draft, ExtendedKeyUsageOID.SERVER_AUTH)

    def _sign(self, draft: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> bytes:
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            draft.issuer_name(self.certificate.subject)
            .add_extension(own, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(self.key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


def _draft(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, days: float, now: datetime | None
) -> x509.CertificateBuilder:
    start = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - SKEW)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _requested_key(csr: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The public key in a request that holds and is `name`'s."""
    again = "ask for a new request, made with this kit"
    if len(csr) > MAX_PEM_BYTES:
        raise TrustError("the certificate request is too long", fix=again)
    try:
        shown = x509.load_pem_x509_csr(csr)
        public, found, sound = shown.public_key(), _only_name(shown.subject), shown.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError("the certificate request does not hold", fix=again) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise TrustError("the certificate request shows no key on the curve P-256", fix=again)
    if not sound:
        raise TrustError("the certificate request is not signed with the key that it shows", fix=again)
    if found != name:
        raise TrustError(f"the certificate request is {found!r}'s, not {name!r}'s", fix=again)
    return public


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _only_name(subject: x509.Name) -> str:
    """The common name, where the subject consists of nothing else: a broker may read the first of several."""
    names = [str(attribute.value) for attribute in subject]
    return names[0] if len(names) == 1 and subject.get_attributes_for_oid(NameOID.COMMON_NAME) else ""


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
