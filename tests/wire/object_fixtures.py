"""One object store for all tests on the wire, empty for each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.fixtures import needing_servers
from tests.wire.objects import Objects


@pytest.fixture(scope="session")
def running_objects() -> Iterator[Objects]:
    with tempfile.TemporaryDirectory(prefix="silokit-objects-") as folder:
        objects = Objects(Path(folder))
        try:
            with needing_servers():
                objects.server.start()
            yield objects
        finally:
            objects.server.close()


@pytest.fixture
def objects(running_objects: Objects) -> Objects:
    running_objects.empty()
    return running_objects
