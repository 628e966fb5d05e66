"""What a server's certificate is seen to be, and what follows when it does not hold: the same for every server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from services.certificates import days_left
from services.errors import MACHINE, NETWORK

_EXPIRED, _HOST, _ADDRESS = 10, 62, 64  # OpenSSL's codes


@dataclass(frozen=True)
class Peer:
    """A server's certificate as a client meets it.

    Args:
        title: what the server is called, for example "the broker".
        where: its address.
        setting: the configuration's key that names it.
        operator: who runs it.
    """

    title: str
    where: str
    setting: str
    operator: str

    def unverified(self, error: ssl.SSLCertVerificationError) -> tuple[str, str, str]:
        """What is wrong with its certificate, what to do, and who must."""
        what = f"the certificate of {self.title} {self.where} does not hold ({error.verify_message})"
        if error.verify_code == _EXPIRED:
            return what, "renew the server's certificate; if it is new, check this machine's clock", self.operator
        if error.verify_code in {_HOST, _ADDRESS}:
            fix = f"write in `{self.setting}` a name that the certificate bears, or have one made for this name"
            return what, fix, f"{MACHINE}, or {self.operator}"
        fix = "check `ca`; if it is right, a proxy opens TLS on the way, or somebody else: have this server excepted"
        return what, fix, f"{MACHINE}, then {NETWORK}"


def describe(certificate: x509.Certificate) -> str:
    """For whom a certificate was signed, by whom, and for how long it holds yet."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = ", ".join(str(name.value) for name in names)
    except x509.ExtensionNotFound:
        hosts = certificate.subject.rfc4514_string()
    left = days_left(certificate, datetime.now(UTC))
    end = f"{left:.0f} days left" if left >= 0 else f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"for {hosts}, signed by {certificate.issuer.rfc4514_string()}, {end}"
