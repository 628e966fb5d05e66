"""How a silo becomes a member: a request out, an admission in, and fingerprints compared by people both ways."""

from __future__ import annotations

from pathlib import Path

from services.enrolment import read_admission, read_limited, write_request
from services.errors import TrustError
from services.keys import fingerprint
from services.wiring import load_identity, pin_root
from silo_agent.settings import SiloConfig


def request(config: SiloConfig, target: Path) -> str:
    """Write the enrolment request; returns the fingerprint to read to the consortium.

    Raises:
        TrustError: the silo has no keys.
    """
    identity = load_identity(config)
    write_request(identity, config.federation, target)
    return identity.public.fingerprint()


def admit(config: SiloConfig, admission: Path, expected: str) -> str:
    """Take an admission whose root fingerprint the consortium has read to us; returns what now holds.

    Raises:
        TrustError: the fingerprint differs, or the admission is not for this silo's keys.
    """
    identity = load_identity(config)
    root, roster = read_admission(read_limited(admission))
    if fingerprint(root.raw).replace(" ", "") != expected.replace(" ", "").upper():
        raise TrustError(
            "the admission's root key does not have the fingerprint that you were told",
            fix="ask the consortium to read the root's fingerprint again, by telephone; do not use this file",
        )
    if roster.federation != config.federation:
        raise TrustError(f"the admission is to {roster.federation}, the configuration says {config.federation}")
    if roster.members.get(config.name) != identity.public:
        raise TrustError(
            f"the admission's roster has no {config.name} with this silo's keys",
            fix="send the enrolment request again, and ask for an admission made from it",
        )
    pin_root(config, root)
    return f"{config.name} is a member of {config.federation} (roster version {roster.version})"
