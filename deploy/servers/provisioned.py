"""A federation's broker and store on this machine, which know what `coordinator provision` wrote and no more."""

from __future__ import annotations

import json
from pathlib import Path

from coordinator.provision import AUTHORITY, DEFINITIONS, SEAWEED_IDENTITIES, SERVER_CERTIFICATE, SERVER_KEY
from deploy.servers.ports import free_ports
from deploy.servers.process import Server
from deploy.servers.rabbitmq import RabbitServer
from deploy.servers.seaweedfs import SeaweedServer, Tls

HOST, BUCKET = "localhost", "artifacts"


class Servers:
    """A RabbitMQ and a SeaweedFS for one federation.

    Args:
        folder: theirs; as for `RabbitServer`.
        metrics: where the broker serves Prometheus; nowhere if no port is given.

    Attributes:
        bus: what `init --bus` is told.
        store: what `init --store` is told.
        broker: the RabbitMQ, once it was started.
        objects: the SeaweedFS, once it was started.

    Raises:
        ServerMissing: one of them is not installed.
    """

    broker: RabbitServer
    objects: SeaweedServer

    def __init__(self, folder: Path, metrics: int | None = None) -> None:
        RabbitServer.require()
        SeaweedServer.require()
        self._folder = folder
        self._metrics = metrics
        self._started: list[Server] = []
        self._ports = free_ports(2)
        self.bus = f"amqps://{HOST}:{self._ports[0]}"
        self.store = f"https://{HOST}:{self._ports[1]}/{BUCKET}"

    def start(self, provisioned: Path) -> None:
        """Start both with the files of `coordinator provision --server localhost`.

        Raises:
            ServerError: one of them does not start.
        """
        ours = {"ca.crt": AUTHORITY, "server.crt": SERVER_CERTIFICATE, "server.key": SERVER_KEY}
        certificates = {name: (provisioned / file).read_bytes() for name, file in ours.items()}
        definitions = json.loads((provisioned / DEFINITIONS).read_bytes())
        identities = json.loads((provisioned / SEAWEED_IDENTITIES).read_bytes())
        tls = Tls((provisioned / SERVER_CERTIFICATE).resolve(), (provisioned / SERVER_KEY).resolve())
        self.objects = SeaweedServer(self._folder / "store", identities, BUCKET, tls, self._ports[1])
        self.broker = RabbitServer(self._folder / "broker", certificates, definitions, self._ports[0], self._metrics)
        for server in (self.objects, self.broker):
            self._started.append(server)
            server.start()

    def close(self) -> None:
        """End both at once."""
        for server in self._started:
            server.close()
