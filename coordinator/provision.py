"""What the consortium's broker and store need, from the roster: written to a folder, for operators to import.

Run again whenever a member joins or leaves: the same roster gives the same files, and nobody's keys are touched. Who
was issued credentials and is no member any more has left: every right is taken away.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator import roster
from coordinator.credentials import Issuer
from coordinator.provisioning.rabbitmq import definitions
from coordinator.provisioning.s3 import no_rights, policy, seaweed_identities
from coordinator.settings import CoordinatorConfig
from services.certificates import make_key, request
from services.files import write_atomic

DEFINITIONS, AUTHORITY = "rabbitmq-definitions.json", "authority.crt"
SERVER_CERTIFICATE, SERVER_KEY = "server.crt", "server.key"
S3_POLICIES, SEAWEED_IDENTITIES = "s3-policies", "seaweedfs-identities.json"
_SECRET = frozenset({SERVER_KEY, SEAWEED_IDENTITIES})


def provision(config: CoordinatorConfig, target: Path, hosts: tuple[str, ...]) -> list[Path]:
    """Write what broker and store need; and one server's key and certificate for both, where hosts are named.

    Args:
        config: the coordinator's configuration.
        target: the folder to write to.
        hosts: the names and addresses that the certificate is to bear; none makes no certificate.

    Returns:
        The files that were written.

    Raises:
        TrustError: there is no roster, or the authority is damaged.
        StateError: somebody's store credentials are damaged.
    """
    issuer = Issuer(config.home, config.federation)
    members = roster.repository(config).roster.members
    files = {
        DEFINITIONS: _json(definitions(config.federation, members, issuer.retired)),
        AUTHORITY: issuer.authority.pem,
    }
    if config.store.s3 is not None:
        place = {"bucket": config.store.s3.bucket, "coordinator": config.name}
        credentials = {name: issuer.credentials(name) for name in members}
        files[SEAWEED_IDENTITIES] = _json(seaweed_identities(config.federation, parties=credentials, **place))
        policies = {name: policy(config.federation, name, **place) for name in members}
        policies |= {name: no_rights(config.store.s3.bucket) for name in issuer.retired}
        files |= {f"{S3_POLICIES}/{name}.json": _json(one) for name, one in sorted(policies.items())}
    if hosts:
        key = make_key()
        files[SERVER_CERTIFICATE] = issuer.authority.sign_server(request(key, hosts[0]), hosts[0], hosts)
        files[SERVER_KEY] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in files.items():
        write_atomic(target / name, content, mode=0o600 if name in _SECRET else 0o644)
    return [target / name for name in files]


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()
