"""A party has the rights it needs on the broker and no other, and every closed way says what to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, AMQPError, ChannelClosedByBroker

from coordinator.provisioning.rabbitmq import definitions
from services.artifact import canonical_json
from services.bus import BusError, Notice
from services.bus.rabbitmq import RabbitBus
from services.certificates import Authority
from tests.wire.broker import FEDERATION, PARTIES, Broker, event, heard, key, publish

# rights


@pytest.mark.parametrize(
    "attempt",
    [
        lambda channel: publish(channel, event(), route="south.hub"),
        lambda channel: publish(channel, event(), route="north.south.hub"),
        lambda channel: channel.basic_publish("", "silokit.party.south", b"x"),
        lambda channel: channel.basic_publish("silokit.dead", "", b"x"),
        lambda channel: channel.basic_get("silokit.party.south"),
        lambda channel: channel.basic_consume("silokit.dead", print),
        lambda channel: channel.queue_purge("silokit.party.south"),
        lambda channel: channel.queue_delete("silokit.party.north"),
        lambda channel: channel.queue_declare("mine"),
        lambda channel: channel.queue_bind("silokit.party.north", "silokit.notices", "*.south"),
        lambda channel: channel.exchange_declare("mine"),
        lambda channel: channel.exchange_delete("silokit.notices"),
    ],
)
def test_a_party_may_do_no_more_than_it_needs(broker: Broker, attempt: Callable[[BlockingChannel], object]) -> None:
    with broker.channel("north") as channel, pytest.raises(ChannelClosedByBroker) as caught:
        attempt(channel)
    assert caught.value.reply_code == 403


def test_nobody_speaks_under_another_name(broker: Broker) -> None:
    with broker.channel("north") as channel, pytest.raises(ChannelClosedByBroker) as caught:
        publish(channel, event(), user="south")
    assert caught.value.reply_code == 406


def test_a_giant_message_ends_at_the_broker(broker: Broker) -> None:
    with broker.channel("north") as channel, pytest.raises(ChannelClosedByBroker) as caught:
        publish(channel, b"x" * 100_000)
    assert caught.value.reply_code == 406


def test_without_a_certificate_of_the_federation_nobody_gets_in(broker: Broker) -> None:
    ways: list[dict[str, Any]] = [
        {"anonymous": True},
        {"authority": Authority.make("heart authority")},
        {"days": -0.5},
        {"credentials": pika.PlainCredentials("north", "")},
        {"credentials": pika.PlainCredentials("guest", "guest")},
    ]
    for way in ways:
        with pytest.raises((AMQPConnectionError, OSError)), broker.channel("north", **way):
            pass
    with pytest.raises(AMQPError):
        pika.BlockingConnection(pika.ConnectionParameters("localhost", broker.server.port, socket_timeout=2))
    log = broker.server.log()
    assert "Unknown CA" in log
    assert "Certificate Expired" in log or "cert_expired" in log


def _speaks_no_tls() -> int:
    """The port of a server that answers as an unencrypted broker does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listener, listener.accept()[0] as client:
            client.recv(1024)
            client.sendall(b"AMQP\x00\x00\x09\x01")

    threading.Thread(target=answer).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("says", "changes"),
    [
        ("does not resolve", lambda: {"host": "no-such-host.invalid"}),
        ("nobody listens", lambda: {"port": 1}),
        ("does not speak TLS", lambda: {"port": _speaks_no_tls()}),
        # under TLS 1.3 the broker's word about a certificate may be overtaken by its hanging up
        (
            "refuses this party's certificate .unknown ca|trusts the authority of `certificate`",
            lambda: {"authority": Authority.make("heart authority")},
        ),
        ("expired on", lambda: {"days": -0.5}),
    ],
)
def test_a_way_that_is_blocked_says_what_to_do(
    broker: Broker, says: str, changes: Callable[[], dict[str, Any]]
) -> None:
    with pytest.raises(BusError, match=says) as caught, broker.bus("north", **changes()):
        pass
    assert caught.value.fix


def test_the_brokers_own_certificate_must_hold_too(broker: Broker) -> None:
    other = broker.config("north", authority=Authority.make("other")).certificate
    with pytest.raises(BusError, match="certificate of the broker"), broker.bus("north", ca=other):
        pass


def test_a_party_that_is_not_provisioned_is_told_so(broker: Broker) -> None:
    with pytest.raises(BusError, match="does not know the user stranger"), broker.bus("stranger"):
        pass


def test_a_certificate_of_another_party_is_noticed_before_it_is_used(broker: Broker) -> None:
    bus = RabbitBus(broker.config("south"), FEDERATION, "north")
    with pytest.raises(BusError, match="'south''s, not 'north''s"):
        bus.wait_ready(5)
    bus.close()


def test_a_closed_bus_says_so(broker: Broker) -> None:
    bus = RabbitBus(broker.config("north"), FEDERATION, "north")
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.consume()
    with pytest.raises(BusError, match="closed"):
        bus.announce("south", Notice(key(1)))


# provisioning


def test_definitions_are_the_same_bytes_for_the_same_roster() -> None:
    once = canonical_json(definitions(FEDERATION, PARTIES))
    assert once == canonical_json(definitions(FEDERATION, [*reversed(PARTIES), "north"]))
    assert b'"password_hash":""' in once


def test_a_member_that_joins_or_leaves_changes_nothing_for_the_others(
    broker: Broker, north: RabbitBus, south: RabbitBus
) -> None:
    broker.server.provision(broker.definitions((*PARTIES, "west")))
    north.announce("south", Notice(key(1)))
    assert heard(south, 1) == {key(1)}
    with broker.bus("west") as west:
        north.announce("west", Notice(key(2)))
        assert heard(west, 1) == {key(2)}
    broker.server.provision(definitions(FEDERATION, PARTIES, former=["west"]))
    with pytest.raises(BusError, match=r"denies west a right|does not let west"), broker.bus("west"):
        pass
    north.announce("south", Notice(key(3)))
    assert heard(south, 1) == {key(3)}
