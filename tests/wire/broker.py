"""A real broker with mutual TLS for the tests, and the ways to it: as a party, as the operator, as nobody."""

from __future__ import annotations

import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pika.adapters.blocking_connection import BlockingChannel

from coordinator.provisioning.rabbitmq import definitions
from deploy.servers.rabbitmq import RabbitServer
from services.bus import BusError, Notice
from services.bus.cloudevent import write_event
from services.bus.rabbitmq import RabbitBus, RabbitConfig
from services.certificates import Authority, make_key, request, write_key

FEDERATION = "heart"
PARTIES = ("hub", "north", "south")
DEAD = "silokit.dead"
QUEUE = "silokit.party.south"
OPERATOR = "operator"


class Broker:
    """The federation's broker, its authority and everybody's certificates.

    Args:
        folder: where all of it lies; the server's part must let the server's account through.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.make("heart authority")
        (folder / "ca.crt").write_bytes(self.authority.pem)
        key = make_key()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        signed = self.authority.sign_server(request(key, "broker"), "broker", ["localhost", "127.0.0.1"])
        certificates = {"ca.crt": self.authority.pem, "server.crt": signed, "server.key": private}
        self.server = RabbitServer(folder / "server", certificates, self.definitions())

    @staticmethod
    def definitions(parties: tuple[str, ...] = PARTIES) -> dict[str, Any]:
        """What provisioning says, and an operator who may do everything."""
        found = definitions(FEDERATION, parties)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        found["users"].append({"name": OPERATOR, "password_hash": "", "tags": ["administrator"]})
        found["permissions"].append({"user": OPERATOR, "vhost": FEDERATION, **everything})
        return found

    def config(self, name: str, *, authority: Authority | None = None, days: float = 1, **changes: Any) -> RabbitConfig:
        """A party's way to the broker, with a new key and certificate; of another authority or age if so told."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        key = make_key()
        write_key(folder / "party.key", key)
        made = datetime.now(UTC) - timedelta(days=1)
        signed = (authority or self.authority).sign_party(request(key, name), name, days=days + 1, now=made)
        (folder / "party.crt").write_bytes(signed)
        values = {
            "host": "localhost",
            "port": self.server.port,
            "ca": self.folder / "ca.crt",
            "certificate": folder / "party.crt",
            "key": folder / "party.key",
        }
        return RabbitConfig(**{**values, **changes})

    @contextmanager
    def bus(self, name: str, **changes: Any) -> Iterator[RabbitBus]:
        """A party on the bus."""
        bus = RabbitBus(self.config(name, **changes), FEDERATION, name)
        try:
            bus.wait_ready(120)
            yield bus
        finally:
            bus.close()

    @contextmanager
    def channel(
        self, name: str = OPERATOR, *, credentials: Any = None, anonymous: bool = False, **changes: Any
    ) -> Iterator[BlockingChannel]:
        """A channel without the kit: what a program that keeps no rule can do with a certificate, or without one."""
        config = self.config(name, **changes)
        context = ssl.create_default_context(cafile=str(config.ca))
        if not anonymous:
            context.load_cert_chain(config.certificate, config.key)
        parameters = pika.ConnectionParameters(
            "localhost",
            self.server.port,
            FEDERATION,
            credentials or pika.credentials.ExternalCredentials(),
            ssl_options=pika.SSLOptions(context, "localhost"),
        )
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            if connection.is_open:
                connection.close()

    def empty(self) -> None:
        """Empty every queue."""
        with self.channel() as channel:
            for queue in ("silokit.dead", *(f"silokit.party.{name}" for name in PARTIES)):
                channel.queue_purge(queue)


def key(number: int, sender: str = "north") -> str:
    """The key of a manifest that might exist."""
    return f"{FEDERATION}/{sender}/run-1/{number:064x}.manifest"


def heard(bus: RabbitBus, count: int, seconds: float = 120) -> set[str]:
    """Wait for `count` distinct objects, acknowledging each notice; a bus that is away for a while is waited for."""
    found: set[str] = set()

    def enough() -> bool:
        for notice in bus.consume():
            bus.acknowledge(notice)
            found.add(notice.object)
        return len(found) >= count

    until(enough, seconds)
    return found


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition, also through failures of the bus.

    Raises:
        AssertionError: it does not come.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
            trouble = "nothing came"
        except BusError as error:
            trouble = str(error)
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {trouble}"
        time.sleep(0.005)


def announced(bus: RabbitBus, recipient: str, number: int) -> bool:
    """Announce one notice; for `until`."""
    bus.announce(recipient, Notice(key(number)))
    return True


def announce_many(config: RabbitConfig, name: str, recipient: str, count: int) -> None:
    """Announce from a process of its own."""
    bus = RabbitBus(config, FEDERATION, name)
    for number in range(count):
        bus.announce(recipient, Notice(key(number, name)))
    bus.close()


def waiting(broker: Broker, queue: str) -> int:
    """How many messages wait in a queue."""
    with broker.channel() as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def publish(channel: BlockingChannel, body: bytes, user: str | None = "north", route: str = "north.south") -> None:
    """Publish to the federation's exchange, well or badly."""
    channel.basic_publish("silokit.notices", route, body, pika.BasicProperties(user_id=user), mandatory=True)


def event(**changes: Any) -> bytes:
    """A notice from north as it travels, with changes."""
    said = json.loads(write_event(Notice(key(1)), FEDERATION, "north", datetime.now(UTC)))
    return json.dumps({**said, **changes}).encode()


def fails(function: Callable[[], object]) -> bool:
    """Whether the bus refuses."""
    try:
        function()
    except BusError:
        return True
    return False
