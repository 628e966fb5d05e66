"""One broker for all tests on the wire, empty for each, and parties on it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.servers import ServerMissing
from services.bus.rabbitmq import RabbitBus
from tests.wire.broker import Broker


@contextmanager
def needing_servers() -> Iterator[None]:
    """Where a server is not installed, say so and skip, but never where CI is to prove something."""
    try:
        yield
    except ServerMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error.what} ({error.fix})")


@pytest.fixture(scope="session")
def running_broker() -> Iterator[Broker]:
    # not pytest's own folder, which root keeps from the account that runs the server
    with tempfile.TemporaryDirectory(prefix="silokit-wire-") as folder:
        Path(folder).chmod(0o711)
        broker = Broker(Path(folder))
        try:
            with needing_servers():
                broker.server.start()
            yield broker
        finally:
            broker.server.close()


@pytest.fixture
def broker(running_broker: Broker) -> Broker:
    running_broker.empty()
    return running_broker


@pytest.fixture
def north(broker: Broker) -> Iterator[RabbitBus]:
    with broker.bus("north") as bus:
        yield bus


@pytest.fixture
def south(broker: Broker) -> Iterator[RabbitBus]:
    with broker.bus("south") as bus:
        yield bus
