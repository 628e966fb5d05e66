"""A run over the worst line, 64 kbit/s and two seconds late: it completes, heartbeats live, progress is shown."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.bus.rabbitmq import RabbitBus
from tests.programs.federation import until
from tests.wire.broker import FEDERATION, PARTIES, Broker
from tests.wire.objects import OPERATOR, Objects
from tests.wire.proxy import Proxy, Weather
from tests.world import HUB, World

RATE = 64_000 // 8  # bytes per second
DELAY = 2.0 if os.environ.get("FAULTS") == "all" else 1.0  # seconds each way: two for a question and its answer


class Buses:
    """Everybody's way to the broker, over the line."""

    def __init__(self, broker: Broker, port: int) -> None:
        self._broker, self._port = broker, port
        self.open: list[RabbitBus] = []

    def of(self, me: str) -> RabbitBus:
        self.open.append(RabbitBus(self._broker.config(me, port=self._port, heartbeat=10, timeout=30), FEDERATION, me))
        return self.open[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_over_the_worst_line(
    broker: Broker, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.world.FEDERATION", FEDERATION)
    broker.server.provision(broker.definitions((HUB, *PARTIES)))
    bad = Weather(delay=DELAY, rate=RATE)
    with (
        Proxy(broker.server.port, bad) as bus_line,
        Proxy(objects.server.port, bad) as store_line,
        objects.store(OPERATOR, store_line.port, connect_timeout=60) as store,
        capture_logs() as logs,
    ):
        buses = Buses(broker, bus_line.port)
        world = World(tmp_path, silos=("north", "south"), store=store, bus=buses)
        run = world.submit()
        threads = [threading.Thread(target=party.run) for party in world.parties.values()]
        for thread in threads:
            thread.start()
        try:
            until("the run is done", lambda: set(world.phases(run).values()) == {"done"}, 500)
        finally:
            for party in world.parties.values():
                party.stop()
            for thread in threads:
                thread.join()
            for bus in buses.open:
                bus.close()
            world.close()
    events = [entry["event"] for entry in logs]
    assert events.count("bus ready") == len(buses.open), "a connection was given up and made again"
    assert "bus away" not in events
    assert {entry["step"] for entry in logs if entry["event"] == "progress"} == {"greeting", "chorus"}
