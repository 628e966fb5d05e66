"""One watched federation for whoever asks for it; it takes most of a minute."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.servers.prometheus import PrometheusServer
from tests import tables
from tests.monitoring.watched import Watched
from tests.wire.fixtures import needing_servers


@pytest.fixture(scope="package")
def watched() -> Iterator[Watched]:
    """A federation that has done a run of each protocol."""
    with tempfile.TemporaryDirectory(prefix="silokit-") as folder, ExitStack() as held:
        Path(folder).chmod(0o711)  # the broker runs under an account of its own
        with needing_servers():
            PrometheusServer.require()
            one = Watched(Path(folder), held)
        one.finish(tables.shared_spec(records=120))
        one.finish(tables.spec(training={"steps": 250, "batch": 32}))
        yield one
