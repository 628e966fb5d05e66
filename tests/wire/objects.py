"""A real object store over TLS for the tests, and the ways into it: as a party, as the operator, as nobody."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator.provisioning.s3 import new_credentials, seaweed_identities
from deploy.servers.seaweedfs import SeaweedServer, Tls
from services.certificates import Authority, make_key, request
from services.store.s3 import S3Config, S3Store

FEDERATION, BUCKET = "heart", "artifacts"
PARTIES = ("hub", "north", "south")
OPERATOR = "operator"
MIB = 1 << 20
KEY = f"{FEDERATION}/north/run-1/{'a' * 64}.body"


class Objects:
    """The federation's object store and everybody's credentials.

    Args:
        folder: where all of it lies.
        parties: who is let in; `hub` is the coordinator.
    """

    def __init__(self, folder: Path, parties: tuple[str, ...] = PARTIES) -> None:
        self.folder = folder
        self.credentials = {name: new_credentials() for name in (*parties, OPERATOR)}
        for name, issued in self.credentials.items():
            issued.write(folder / f"{name}.json")
        authority = Authority.make("heart authority")
        key = make_key()
        paths = [folder / name for name in ("ca.crt", "server.crt", "server.key")]
        self.ca, certificate, private = paths
        self.ca.write_bytes(authority.pem)
        certificate.write_bytes(authority.sign_server(request(key, "store"), "store", ["localhost", "127.0.0.1"]))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        let_in = {name: self.credentials[name] for name in parties}
        identities = seaweed_identities(FEDERATION, BUCKET, let_in, coordinator="hub")
        operator = self.credentials[OPERATOR]
        identities["identities"].append(
            {
                "name": OPERATOR,
                "credentials": [{"accessKey": operator.access_key, "secretKey": operator.secret_key}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        )
        self.server = SeaweedServer(folder / "server", identities, BUCKET, Tls(certificate, private))

    def config(self, name: str, port: int | None = None, **changes: Any) -> S3Config:
        """A party's way to the store; through a proxy on another port if so told."""
        values = {
            "endpoint": f"https://localhost:{port or self.server.port}",
            "bucket": BUCKET,
            "credentials": self.folder / f"{name}.json",
            "ca": self.ca,
            "part_mib": 5,
            "patience": 20.0,
        }
        return S3Config(**{**values, **changes})

    @contextmanager
    def store(self, name: str, port: int | None = None, **changes: Any) -> Iterator[S3Store]:
        """The store as one party has it."""
        store = S3Store(self.config(name, port, **changes))
        try:
            yield store
        finally:
            store.close()

    def empty(self) -> None:
        """Delete everything."""
        with self.store(OPERATOR) as store:
            store.delete("")


def made(path: Path, mebibytes: float) -> Path:
    """A file of random bytes."""
    with path.open("wb") as out:
        for _ in range(int(mebibytes * 16)):
            out.write(os.urandom(MIB // 16))
    return path


def sha(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
