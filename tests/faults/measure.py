"""What a task costs this process: seconds, and memory beyond what it held before."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS, MEBIBYTES = 1.0, 64.0
"""What a hostile payload may cost."""


@dataclass
class Cost:
    """Filled in when the task has ended."""

    seconds: float = 0.0
    mebibytes: float = 0.0

    @property
    def bearable(self) -> bool:
        """Whether a stranger may make a party pay it."""
        return self.seconds <= SECONDS and self.mebibytes <= MEBIBYTES


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block: processor time, which no neighbour adds to, and the peak of resident memory."""
    cost = Cost()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = _resident("VmRSS"), time.process_time()
    yield cost
    cost.seconds = time.process_time() - start
    cost.mebibytes = _resident("VmHWM") - before


def _resident(field: str) -> float:
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(field)]
    return int(line.split()[1]) / 1024
