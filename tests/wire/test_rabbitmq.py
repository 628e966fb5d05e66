"""The bus over a real broker: nothing confirmed is lost, nobody speaks for another, and it comes back by itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from coordinator.provisioning.rabbitmq import DELIVERY_LIMIT
from services.bus import BusError, Notice
from services.bus.amqp import PREFETCH
from services.bus.rabbitmq import RabbitBus
from tests.wire.broker import (
    DEAD,
    QUEUE,
    Broker,
    announce_many,
    announced,
    event,
    fails,
    heard,
    key,
    publish,
    until,
    waiting,
)  # fmt: skip

# notices


def test_a_notice_is_shown_until_it_is_acknowledged_and_then_forgotten(
    broker: Broker, north: RabbitBus, south: RabbitBus
) -> None:
    north.announce("south", Notice(key(1)))
    north.announce("south", Notice(key(2)))
    until(lambda: len(south.consume()) == 2)
    assert [notice.object for notice in south.consume()] == [key(1), key(2)]
    assert len(south.consume(limit=1)) == 1
    first, second = south.consume()
    south.acknowledge(first)
    south.acknowledge(first)
    assert south.consume() == [second]
    assert north.consume() == []
    south.close()
    with broker.bus("south") as again:
        until(again.consume)
        assert [notice.object for notice in again.consume()] == [key(2)]
        again.acknowledge(first)  # a token of a connection that is gone
        again.acknowledge(again.consume()[0])
        assert again.consume() == []
    until(lambda: waiting(broker, QUEUE) == 0)


def test_a_notice_travels_as_a_cloudevent_that_the_broker_attests(broker: Broker, north: RabbitBus) -> None:
    north.announce("south", Notice(key(1)))
    with broker.channel() as channel:
        method, properties, body = channel.basic_get(QUEUE)
        channel.basic_ack(method.delivery_tag)
    said = json.loads(body)
    datetime.fromisoformat(said.pop("time"))
    assert said == {
        "specversion": "1.0",
        "type": "silokit.artifact.v1",
        "source": "/heart/north",
        "id": key(1),
        "subject": key(1),
    }
    assert properties.content_type == "application/cloudevents+json; charset=utf-8"
    assert (properties.user_id, properties.delivery_mode, method.routing_key) == ("north", 2, "north.south")


def test_a_party_holds_no_more_than_a_bounded_number_of_notices(north: RabbitBus, south: RabbitBus) -> None:
    for number in range(PREFETCH + 20):
        announced(north, "south", number)
    until(lambda: len(south.consume(limit=10_000)) == PREFETCH)
    assert len(heard(south, PREFETCH + 20)) == PREFETCH + 20


def test_a_notice_for_nobody_is_an_error_and_the_bus_goes_on(north: RabbitBus, south: RabbitBus) -> None:
    with pytest.raises(BusError, match="no queue for stranger") as caught:
        north.announce("stranger", Notice(key(1)))
    assert caught.value.fix
    assert caught.value.kept
    north.announce("south", Notice(key(2)))
    assert heard(south, 1) == {key(2)}


def test_several_processes_and_threads_announce_at_once(broker: Broker, north: RabbitBus, south: RabbitBus) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=announce_many, args=(broker.config("hub"), "hub", "south", 100))
    process.start()
    threads = [
        threading.Thread(target=lambda start: [announced(north, "south", start + n) for n in range(50)], args=(part,))
        for part in (1000, 2000)
    ]
    for thread in threads:
        thread.start()
    found = heard(south, 200)
    process.join(120)
    for thread in threads:
        thread.join(120)
    assert found == {key(n, "hub") for n in range(100)} | {key(1000 + n) for n in range(50)} | {
        key(2000 + n) for n in range(50)
    }  # fmt: skip


def delays(north: RabbitBus, south: RabbitBus, numbers: range) -> tuple[list[float], float]:
    """How long each notice takes to its consumer, sorted, and a confirmation to its sender, the median; in ms."""
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}
    confirmed: list[float] = []

    def listen() -> None:
        while len(arrived) < len(numbers):
            for notice in south.consume():
                arrived[notice.object] = time.perf_counter()
                south.acknowledge(notice)
            time.sleep(0.001)

    listener = threading.Thread(target=listen)
    listener.start()
    for number in numbers:
        sent[key(number)] = time.perf_counter()
        north.announce("south", Notice(key(number)))
        confirmed.append(time.perf_counter() - sent[key(number)])
        time.sleep(0.005)
    listener.join(120)
    return sorted(1000 * (arrived[name] - sent[name]) for name in sent), 1000 * statistics.median(confirmed)


def test_a_notice_arrives_within_a_tenth_of_a_second(
    north: RabbitBus, south: RabbitBus, figure: Callable[[str], None]
) -> None:
    count = 100
    for attempt in range(20):  # a neighbour on the machine slows notices down, and never speeds them up
        taken, confirmed = delays(north, south, range(attempt * count, (attempt + 1) * count))
        p50, p99 = statistics.median(taken), taken[int(0.99 * count)]
        if p99 < 100:
            figure(
                f"notice to consumer: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {taken[-1]:.1f} ms;"
                f" confirmed in {confirmed:.1f} ms (median of {count}, attempt {attempt + 1})"
            )
            return
    pytest.fail(f"of {count} notices one takes {p99:.0f} ms, half of them {p50:.0f} ms")


def test_an_idle_bus_costs_almost_no_processor_time(north: RabbitBus, figure: Callable[[str], None]) -> None:
    before, began = time.process_time(), time.perf_counter()
    time.sleep(3)
    share = (time.process_time() - before) / (time.perf_counter() - began)
    figure(f"idle bus: {share:.2%} of one processor")
    assert share < 0.01


# failures


def test_what_was_not_acknowledged_comes_again_after_a_broken_connection(
    broker: Broker, north: RabbitBus, south: RabbitBus
) -> None:
    north.announce("south", Notice(key(1)))
    until(south.consume)
    (old,) = south.consume()
    broker.server.ctl("close_all_user_connections", "south", "maintenance")
    until(lambda: (new := south.consume()) and new[0].token != old.token)
    south.acknowledge(old)
    assert heard(south, 1) == {key(1)}
    until(lambda: waiting(broker, QUEUE) == 0)


def test_a_broker_that_falls_silent_is_noticed_and_its_return_too(broker: Broker) -> None:
    node = broker.server._process
    assert node is not None
    with broker.bus("north", heartbeat=5, timeout=1) as north:
        os.killpg(node.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BusError, match="in time"):
                north.announce("south", Notice(key(1)))
            until(lambda: fails(north.consume))
        finally:
            os.killpg(node.pid, signal.SIGCONT)
        until(lambda: announced(north, "south", 2))


def test_a_full_broker_is_named_and_sending_goes_on_when_it_has_space(
    broker: Broker, north: RabbitBus, south: RabbitBus
) -> None:
    broker.server.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        until(lambda: fails(lambda: announced(north, "south", 1)))
        with pytest.raises(BusError, match="memory or disk is full"):
            announced(north, "south", 1)
    finally:
        broker.server.ctl("set_vm_memory_high_watermark", "0.4")
    until(lambda: announced(north, "south", 2))
    until(lambda: key(2) in heard(south, 1))


def test_a_deleted_queue_is_named_and_read_again_when_it_is_provisioned(
    broker: Broker, north: RabbitBus, south: RabbitBus
) -> None:
    with broker.channel() as channel:
        channel.queue_delete(QUEUE)
    until(lambda: fails(south.consume))
    with pytest.raises(BusError, match="no queue for south"):
        north.announce("south", Notice(key(1)))
    south.announce("north", Notice(key(2, "south")))  # the other direction works all the while
    assert heard(north, 1) == {key(2, "south")}
    until(lambda: "lacks" in _complaint(south))
    broker.server.provision(broker.definitions())
    until(lambda: not fails(south.consume))
    north.announce("south", Notice(key(3)))
    assert heard(south, 1) == {key(3)}


def _complaint(bus: RabbitBus) -> str:
    try:
        bus.consume()
    except BusError as error:
        return error.what
    return ""


def test_poison_goes_to_the_dead_letters_and_the_rest_flows(broker: Broker, south: RabbitBus) -> None:
    poison = [
        b"",
        b"\x80\x04nonsense",
        b"[" * 4000,
        b'{"specversion":"1.0"}',
        event(type="silokit.artifact.v2"),
        event(source="/heart/south"),
        event(subject="../../etc/passwd"),
        event(time="yesterday"),
        event(data="x" * 5000),
    ]
    with broker.channel("north") as channel:
        for body in poison:
            publish(channel, body)
        publish(channel, event(), user=None)  # nobody attests it
        publish(channel, event())
    assert heard(south, 1) == {key(1)}
    until(lambda: waiting(broker, DEAD) == len(poison) + 1)
    assert waiting(broker, QUEUE) == 0


def test_a_notice_that_is_given_back_too_often_is_a_dead_letter(broker: Broker, north: RabbitBus) -> None:
    north.announce("south", Notice(key(1)))
    deliveries = 0
    with broker.channel("south") as channel:
        for method, _, _ in channel.consume(QUEUE, inactivity_timeout=0.2):
            if method is None:
                if waiting(broker, DEAD):
                    break
                continue
            deliveries += 1
            channel.basic_nack(method.delivery_tag, requeue=True)
    assert deliveries == DELIVERY_LIMIT + 1
    assert waiting(broker, DEAD) == 1
