"""What the consortium's broker needs, from the roster: written to a folder, for operators to import.

Run again whenever a member joins or leaves: the same roster gives the same files, and nobody's keys are touched.
"""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator import roster
from coordinator.credentials import Issuer
from coordinator.provisioning.rabbitmq import definitions
from coordinator.settings import CoordinatorConfig
from services.certificates import make_key, request
from services.files import write_atomic

DEFINITIONS, AUTHORITY = "rabbitmq-definitions.json", "authority.crt"
SERVER_CERTIFICATE, SERVER_KEY = "server.crt", "server.key"


def provision(config: CoordinatorConfig, target: Path, hosts: tuple[str, ...]) -> list[Path]:
    """Write the broker's definitions and the authority; and a server's key and certificate, where hosts are named.

    Args:
        config: the coordinator's configuration.
        target: the folder to write to.
        hosts: the names and addresses that the broker's certificate is to bear; none makes no certificate.

    Returns:
        The files that were written.

    Raises:
        TrustError: there is no roster, or the authority is damaged.
    """
    issuer = Issuer(config.home, config.federation)
    members = roster.repository(config).roster.members
    known = definitions(config.federation, members, issuer.retired)
    files = {
        DEFINITIONS: json.dumps(known, indent=2, sort_keys=True).encode(),
        AUTHORITY: issuer.authority.pem,
    }
    if hosts:
        key = make_key()
        files[SERVER_CERTIFICATE] = issuer.authority.sign_server(request(key, hosts[0]), hosts[0], hosts)
        files[SERVER_KEY] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in files.items():
        write_atomic(target / name, content, mode=0o600 if name == SERVER_KEY else 0o644)
    return [target / name for name in files]
