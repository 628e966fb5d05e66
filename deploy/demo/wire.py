"""The demo's broker and store: real servers on free ports of this machine, gone when the demo ends, however it ends."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.servers.provisioned import Servers


@contextmanager
def servers() -> Iterator[Servers]:
    """A broker and a store, to be started when they are provisioned.

    Raises:
        ServerMissing: one of them is not installed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what follows is cleared away
    with tempfile.TemporaryDirectory(prefix="silokit-demo-") as folder:
        Path(folder).chmod(0o711)  # the broker may run under an account of its own
        found = Servers(Path(folder))
        try:
            yield found
        finally:
            found.close()
