"""The federation's authority signs who somebody is and nothing else, and private keys stay where they were made."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from services.certificates import (
    Authority,
    Key,
    common_name,
    days_left,
    make_key,
    read_certificate,
    read_key,
    request,
    write_key,
)
from services.errors import TrustError

NOW = datetime(2030, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("heart authority", NOW)


def _chain_holds(authority: Authority, certificate: x509.Certificate, host: str) -> None:
    verifier = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    verifier = verifier.extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.webpki_defaults_ee()
    )
    verifier.build_server_verifier(x509.DNSName(host)).verify(certificate, [])


def test_a_party_is_signed_as_a_client_that_serves_nothing(authority: Authority) -> None:
    key = make_key()
    signed = x509.load_pem_x509_certificate(authority.sign_party(request(key, "north"), "north", now=NOW))
    assert common_name(signed) == "north"
    assert signed.public_key() == key.public_key()
    signed.verify_directly_issued_by(authority.certificate)
    assert list(signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_server_is_signed_for_its_hosts_and_for_no_other(authority: Authority) -> None:
    csr = request(make_key(), "broker")
    signed = x509.load_pem_x509_certificate(authority.sign_server(csr, "broker", ["mq.example", "127.0.0.1"], now=NOW))
    _chain_holds(authority, signed, "mq.example")
    with pytest.raises(VerificationError):
        _chain_holds(authority, signed, "other.example")
    with pytest.raises(VerificationError):
        _chain_holds(Authority.make("heart authority", NOW), signed, "mq.example")


def test_a_request_under_another_name_is_refused(authority: Authority) -> None:
    with pytest.raises(TrustError, match="'south''s, not 'north''s"):
        authority.sign_party(request(make_key(), "south"), "north")


def _signed_by(key: Key, shown: Key) -> bytes:
    """A request that shows a key which its maker does not hold."""
    honest = forged = x509.load_pem_x509_csr(request(shown, "north"))
    while forged is honest or len(forged.signature) != len(honest.signature):  # they vary by a byte or two
        forged = x509.load_pem_x509_csr(request(key, "north"))
    return _pem(honest.public_bytes(Encoding.DER).replace(honest.signature, forged.signature))


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE REQUEST-----\n"


def test_a_request_for_a_key_that_its_maker_does_not_hold_is_refused(authority: Authority) -> None:
    with pytest.raises(TrustError, match="not signed with the key that it shows"):
        authority.sign_party(_signed_by(make_key(), make_key()), "north")


def test_nothing_is_taken_from_a_request_but_its_key(authority: Authority) -> None:
    key = make_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mq.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    signed = x509.load_pem_x509_certificate(authority.sign_party(greedy.public_bytes(Encoding.PEM), "north", now=NOW))
    assert signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(x509.ExtensionNotFound):
        signed.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_request_with_two_names_or_more_than_a_name_is_refused(authority: Authority) -> None:
    for attributes in (
        [(NameOID.COMMON_NAME, "north"), (NameOID.COMMON_NAME, "south")],
        [(NameOID.COMMON_NAME, "north"), (NameOID.ORGANIZATION_NAME, "South")],
        [(NameOID.ORGANIZATION_NAME, "north")],
    ):
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(make_key(), hashes.SHA256())
        with pytest.raises(TrustError):
            authority.sign_party(csr.public_bytes(Encoding.PEM), "north")


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_another_kind_of_key_is_refused(
    authority: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    with pytest.raises(TrustError, match="P-256"):
        authority.sign_party(request(key, "north"), "north")  # type: ignore[arg-type]


@pytest.mark.parametrize("csr", [b"", b"nonsense", _pem(b"\x30\x00"), b"x" * (1 << 20)])
def test_what_is_no_request_is_refused(authority: Authority, csr: bytes) -> None:
    with pytest.raises(TrustError):
        authority.sign_party(csr, "north")


def test_a_certificate_counts_its_days_and_forgives_a_slow_clock(authority: Authority) -> None:
    csr = request(make_key(), "north")
    signed = x509.load_pem_x509_certificate(authority.sign_party(csr, "north", days=30, now=NOW))
    assert days_left(signed, NOW) == pytest.approx(30)
    assert days_left(signed, NOW + timedelta(days=31)) == pytest.approx(-1)
    assert signed.not_valid_before_utc <= NOW - timedelta(minutes=10)


def test_an_authority_is_saved_once_and_for_its_owner_only(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    assert (tmp_path / "authority.key").stat().st_mode & 0o777 == 0o600
    again = Authority.load(tmp_path)
    assert again.certificate == authority.certificate
    again.sign_party(request(make_key(), "north"), "north")
    with pytest.raises(TrustError, match="already"):
        authority.save(tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "a.key", make_key())
    (tmp_path / "a.key").chmod(0o640)
    with pytest.raises(TrustError, match="read by others"):
        read_key(tmp_path / "a.key")


def test_an_absent_or_damaged_file_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"-----BEGIN NONSENSE-----")
    (tmp_path / "bad").chmod(0o600)
    for read in (read_key, read_certificate):
        with pytest.raises(TrustError, match="cannot be read"):
            read(tmp_path / "absent")
        with pytest.raises(TrustError, match="holds no"):
            read(tmp_path / "bad")


def test_key_and_certificate_of_two_authorities_are_not_one(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    (tmp_path / "authority.crt").write_bytes(Authority.make("other").pem)
    with pytest.raises(TrustError, match="belong together"):
        Authority.load(tmp_path)
