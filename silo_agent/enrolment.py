"""How a silo becomes a member: a request out, an admission in, and fingerprints compared by people both ways."""

from __future__ import annotations

from pathlib import Path

from services import certificates
from services.certificates import make_key, read_key, write_key
from services.enrolment import (
    STORE_CREDENTIALS,
    TLS_AUTHORITY,
    TLS_CERTIFICATE,
    TLS_KEY,
    read_admission,
    read_limited,
    write_request,
)
from services.errors import TrustError
from services.files import private_folder, write_atomic
from services.keys import fingerprint
from services.wiring import load_identity, pin_root
from silo_agent.settings import SiloConfig


def request(config: SiloConfig, target: Path) -> str:
    """Write the enrolment request; returns the fingerprint to read to the consortium.

    Raises:
        TrustError: the silo has no keys.
    """
    identity = load_identity(config)
    private_folder((config.home / TLS_KEY).parent)
    if not (config.home / TLS_KEY).exists():
        write_key(config.home / TLS_KEY, make_key())
    asked = certificates.request(read_key(config.home / TLS_KEY), identity.name)
    write_request(identity, config.federation, asked, target)
    return identity.public.fingerprint()


def admit(config: SiloConfig, admission: Path, expected: str) -> str:
    """Take an admission whose root fingerprint the consortium has read to us; returns what now holds.

    Raises:
        TrustError: the fingerprint differs, or the admission is not for this silo's keys.
    """
    identity = load_identity(config)
    found = read_admission(read_limited(admission))
    root = found.root
    if fingerprint(root.raw).replace(" ", "") != expected.replace(" ", "").upper():
        raise TrustError(
            "the admission's root key does not have the fingerprint that you were told",
            fix="ask the consortium to read the root's fingerprint again, by telephone; do not use this file",
        )
    roster = found.read_roster()
    if roster.federation != config.federation:
        raise TrustError(f"the admission is to {roster.federation}, the configuration says {config.federation}")
    if roster.members.get(config.name) != identity.public:
        raise TrustError(
            f"the admission's roster has no {config.name} with this silo's keys",
            fix="send the enrolment request again, and ask for an admission made from it",
        )
    credentials = found.open_credentials(identity, config.federation)
    pin_root(config, root)
    write_atomic(config.home / TLS_CERTIFICATE, found.certificate.encode(), mode=0o644)
    write_atomic(config.home / TLS_AUTHORITY, found.authority.encode(), mode=0o644)
    credentials.write(config.home / STORE_CREDENTIALS)
    return f"{config.name} is a member of {config.federation} (roster version {roster.version})"
