"""Where the fault suite's folders lie."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY = Path("/dev/shm")
DISK = MEMORY if os.access(MEMORY, os.W_OK) else None
"""In memory where there is such a place: kill -9 leaves the system's cache alone, so a disk would prove no more."""
