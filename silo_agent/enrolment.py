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
from services.keyring import KeyRing
from services.trust.root import check_pin, pin, root_fingerprint
from services.wiring import load_keys, trust_folder
from silo_agent.settings import SiloConfig


def request(config: SiloConfig, target: Path, *, change_keys: bool = False) -> str:
    """Write the enrolment request; returns the fingerprint to read to the consortium.

    A silo whose private folder holds nothing of a party yet is given keys, unless it is to change them.

    Args:
        config: the silo's configuration.
        target: the file to write.
        change_keys: draw new keys, which hold once the roster names them, and have the present one vouch for them.

    Raises:
        TrustError: the silo has a state and no keys.
    """
    if not change_keys:
        KeyRing.ensure(config.home, config.name)
    ring = load_keys(config)
    identity = ring.draw_next() if change_keys else ring.current
    private_folder((config.home / TLS_KEY).parent)
    if not (config.home / TLS_KEY).exists():
        write_key(config.home / TLS_KEY, make_key())
    asked = certificates.request(read_key(config.home / TLS_KEY), ring.name)
    former = ring.signing if change_keys else None
    write_request(identity.public, identity.signing, config.federation, asked, target, former=former)
    return identity.public.fingerprint()


def admit(config: SiloConfig, admission: Path, expected: str) -> str:
    """Take an admission whose root fingerprint the consortium has read to us; returns what now holds.

    Raises:
        TrustError: the fingerprint differs, or the admission is not for this silo's keys.
    """
    ring = load_keys(config)
    found = read_admission(read_limited(admission))
    root = found.root.encode()
    if root_fingerprint(root).replace(" ", "") != expected.replace(" ", "").upper():
        raise TrustError(
            "the admission's root does not have the fingerprint that you were told",
            fix="ask the consortium to read the root's fingerprint again, by telephone; do not use this file",
        )
    credentials = found.open_credentials(ring, config.federation)
    check_pin(trust_folder(config), root)
    write_atomic(config.home / TLS_CERTIFICATE, found.certificate.encode(), mode=0o644)
    write_atomic(config.home / TLS_AUTHORITY, found.authority.encode(), mode=0o644)
    credentials.write(config.home / STORE_CREDENTIALS)
    pin(trust_folder(config), root)  # the last, for a service that waits for it goes on at once
    return f"{config.name} is admitted to {config.federation}; `silo-agent check` says whether the roster names it yet"
