"""An agent starts light: it is ready at once and learns nothing about tensors until there is work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.programs.federation import Federation, temporary

READY_SECONDS = 5.0
RESIDENT_MIB = 400


@pytest.fixture
def federation() -> Iterator[Federation]:
    with temporary(silos=("east",)) as one:
        one.found()
        yield one


def test_an_agent_is_ready_within_seconds_and_small_before_there_is_work(
    federation: Federation, figure: Callable[[str], None]
) -> None:
    federation.start("east")
    process = Path("/proc") / str(federation.processes["east"].pid)
    ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")  # on the processor, for the machine may be busy
    resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    mebibytes = int(resident.split()[1]) / 1024
    figure(f"an agent is ready after {seconds:.2f} s of processor time, with {mebibytes:.0f} MiB resident")
    assert seconds < READY_SECONDS
    assert mebibytes < RESIDENT_MIB
    assert "torch" not in (process / "maps").read_text()
