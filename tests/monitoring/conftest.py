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
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="silokit-"))
        Path(folder).chmod(0o711)  # the broker runs under an account of its own
        alone = held.enter_context(pytest.MonkeyPatch.context())
        alone.setenv("OMP_NUM_THREADS", "1")  # several parties train on one machine: their threads would only spin
        with needing_servers():
            PrometheusServer.require()
            one = Watched(Path(folder), held)
        one.finish(tables.shared_spec(records=120))
        one.finish(tables.spec(training={"steps": 300, "batch": 32}))
        yield one
