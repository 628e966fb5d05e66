"""kill -9 of broker and store, again and again under load: nothing confirmed is lost, and all works again soon.

Eight times the broker and five times the store; fifty and twenty with FAULTS=all.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.bus import BusError
from services.bus.rabbitmq import RabbitBus
from services.errors import StoreError
from tests.wire.broker import Broker, announced, key, until
from tests.wire.objects import FEDERATION, Objects, made, sha

ALL = os.environ.get("FAULTS") == "all"
BROKER_KILLS, STORE_KILLS = (50, 20) if ALL else (8, 5)
BACK = 120.0  # seconds after the server is, at the very most; the figure says how many it takes
BUSY = 20  # confirmations between two kills


@contextmanager
def at_work(*tasks: Callable[[], None]) -> Iterator[None]:
    """Do the tasks over and over, each on a thread of its own, until the block ends."""
    done = threading.Event()

    def again_and_again(task: Callable[[], None]) -> None:
        while not done.is_set():
            try:
                task()
            except (BusError, StoreError):
                done.wait(0.02)

    threads = [threading.Thread(target=again_and_again, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(60)


def kill_again_and_again(server: Any, kills: int, confirmed: dict[str, str]) -> float:
    """Kill a server that is busy, and start it again; returns how long it was at most until it confirmed once more."""
    pauses = []
    for _ in range(kills):
        enough = len(confirmed) + BUSY
        until(lambda enough=enough: len(confirmed) >= enough, BACK)
        server.kill9()
        before = len(confirmed)
        server.restart()
        began = time.monotonic()
        until(lambda before=before: len(confirmed) > before, BACK)
        pauses.append(time.monotonic() - began)
    return max(pauses)


@pytest.mark.timeout(1200)
def test_no_confirmed_notice_is_lost(broker: Broker, figure: Callable[[str], None]) -> None:
    confirmed: dict[str, str] = {}
    found: set[str] = set()

    def announce(north: RabbitBus) -> None:
        announced(north, "south", len(confirmed))
        confirmed[key(len(confirmed))] = ""

    def listen(south: RabbitBus) -> None:
        for notice in south.consume():
            south.acknowledge(notice)
            found.add(notice.object)

    with broker.bus("north") as north, broker.bus("south") as south:
        with at_work(lambda: announce(north), lambda: listen(south)):
            longest = kill_again_and_again(broker.server, BROKER_KILLS, confirmed)
        until(lambda: (listen(south), confirmed.keys() <= found)[1])
    figure(
        f"broker: {BROKER_KILLS} kills, {len(confirmed)} notices confirmed, 0 lost;"
        f" working again within {longest:.1f} s"
    )


@pytest.mark.timeout(1200)
def test_no_confirmed_object_is_lost(objects: Objects, tmp_path: Path, figure: Callable[[str], None]) -> None:
    confirmed: dict[str, str] = {}

    def put_next(worker: int) -> Callable[[], None]:
        number = 0

        def put() -> None:
            nonlocal number
            number += 1
            name = f"{FEDERATION}/north/load/{worker}-{number}.body"
            source = made(tmp_path / f"{worker}", 6 if number % 8 == 0 else 0.0625)
            north.put(name, source)
            confirmed[name] = sha(source)

        return put

    with objects.store("north") as north, at_work(put_next(1), put_next(2)):
        longest = kill_again_and_again(objects.server, STORE_KILLS, confirmed)
    with objects.store("south") as south:
        assert set(confirmed) <= set(south.list(f"{FEDERATION}/north/load/"))
        for name, digest in confirmed.items():
            south.get(name, tmp_path / "out", 6 << 20)
            assert sha(tmp_path / "out") == digest
    figure(
        f"store: {STORE_KILLS} kills, {len(confirmed)} objects confirmed, 0 lost; working again within {longest:.1f} s"
    )
