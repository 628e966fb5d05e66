"""An agent starts light: it is ready at once and learns nothing about tensors until there is work."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.federation import Federation

READY_SECONDS = 5.0
RESIDENT_MIB = 400


@pytest.fixture
def federation() -> Iterator[Federation]:
    folder = Path(tempfile.mkdtemp(prefix="silokit-"))
    one = Federation(folder, silos=("east",))
    one.found()
    yield one
    one.close()
    shutil.rmtree(folder)


def test_an_agent_is_ready_within_seconds_and_small_before_there_is_work(federation: Federation) -> None:
    start = time.monotonic()
    federation.start("east")
    seconds = time.monotonic() - start
    process = Path("/proc") / str(federation.processes["east"].pid)
    resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    mebibytes = int(resident.split()[1]) / 1024
    print(f"ready after {seconds:.2f} s, {mebibytes:.0f} MiB resident")
    assert seconds < READY_SECONDS
    assert mebibytes < RESIDENT_MIB
    assert "torch" not in (process / "maps").read_text()
