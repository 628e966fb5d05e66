"""A real SeaweedFS in a folder of its own, as S3 store: private ports, named identities, nothing left when it stops.

It listens on this machine only. The keys in `security.toml`, new at every
start, close the filer and the volumes, which would otherwise serve everything to everybody; the ports on which its
parts coordinate stay open to other programs of this machine: a store for tests and for the demo, not for a hospital.
"""

from __future__ import annotations

import json
import secrets
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from deploy.servers import ServerMissing
from deploy.servers.ports import free_ports
from deploy.servers.process import Server
from services.files import write_atomic

PROGRAM = Path(sys.executable).parent / "weed"
_SOCKET = "/tmp/seaweedfs-{}-grpc-{}.sock"  # noqa: S108 - where the server puts them, whatever it is told
_PARTS = ("s3", "master", "volume", "filer", "admin")


@dataclass(frozen=True)
class Tls:
    """What the server shows its clients, and whom it lets in.

    Args:
        certificate: its certificate, a PEM file.
        key: its private key.
        clients: the authority that must have signed a client's certificate; None asks for none.
    """

    certificate: Path
    key: Path
    clients: Path | None = None


class SeaweedServer(Server):
    """A SeaweedFS with one bucket.

    Args:
        folder: the server's own.
        identities: who may do what, as `coordinator.provisioning.s3.seaweed_identities` says it.
        bucket: the bucket that it makes at its first start.
        tls: its certificate; None speaks plain HTTP.
        port: where it serves S3; a free one if none is given.
    """

    title = "SeaweedFS"
    boot_seconds = 30.0
    stop_seconds = 10.0

    def __init__(
        self,
        folder: Path,
        identities: Mapping[str, Any],
        bucket: str,
        tls: Tls | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(folder)
        self.bucket = bucket
        self._identities = identities
        self._tls = tls
        ports = free_ports(2 * len(_PARTS))
        self._ports = dict(zip(_PARTS, zip(ports[::2], ports[1::2], strict=True), strict=True))
        self._ports["s3"] = port or ports[0], ports[1]

    @property
    def filer_port(self) -> int:
        """The port of the filer, which serves nothing without a token."""
        return self._ports["filer"][0]

    @property
    def port(self) -> int:
        """The S3 port."""
        return self._ports["s3"][0]

    @property
    def endpoint(self) -> str:
        """The address that clients are told."""
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    @classmethod
    def require(cls) -> None:
        """See `Server.require`."""
        if not PROGRAM.exists():
            raise ServerMissing(f"there is no SeaweedFS at {PROGRAM}", fix="`make install` brings it")

    def _prepare(self) -> Sequence[str]:
        data = self.folder / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self.folder / "identities.json", json.dumps(self._identities, indent=1, sort_keys=True).encode())
        write_atomic(self.folder / "security.toml", _security())
        return [str(PROGRAM), "-logtostderr=true", "mini", f"-dir={data}", *self._options()]

    def _surroundings(self) -> dict[str, Any]:
        # what it maps at rest comes close to 200 MiB: with that as its limit it does nothing but collect garbage
        environment = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "GOMEMLIMIT": "400MiB"}
        return {"env": environment, "cwd": self.folder}

    def _options(self) -> list[str]:
        options = [
            *(f"-{part}.port={number}" for part, (number, _) in self._ports.items()),
            *(f"-{part}.port.grpc={number}" for part, (_, number) in self._ports.items()),
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.config=identities.json",
            "-s3.localSocket=s3.sock",
            "-filer.localSocket=filer.sock",
            f"-bucket={self.bucket}",
        ]
        if self._tls:
            options += [f"-s3.cert.file={self._tls.certificate}", f"-s3.key.file={self._tls.key}"]
            if self._tls.clients:
                options += [f"-s3.cacert.file={self._tls.clients}", "-s3.tlsVerifyClientCert=true"]
        return options

    def _answers(self) -> bool:
        """Whether the bucket was made, at this start or an earlier one, and the S3 port serves.

        A client without certificate gets no further than the greeting where certificates are asked for.
        """
        if f"created bucket {self.bucket}" not in self.log():
            return False
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # asks only whether it is up
            connection = HTTPSConnection("127.0.0.1", self.port, timeout=1, context=context)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == HTTPStatus.OK
        except ssl.SSLError:
            return self._tls is not None and self._tls.clients is not None
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _ended(self) -> None:
        for part, (_, port) in self._ports.items():
            Path(_SOCKET.format(part, port)).unlink(missing_ok=True)


def _security() -> bytes:
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    return "".join(f'[{section}]\nkey = "{secrets.token_hex(32)}"\n' for section in sections).encode()
