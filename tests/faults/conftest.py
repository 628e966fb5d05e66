"""Folders of the fault suite lie in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disk import DISK


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="silokit-", dir=DISK) as folder:
        yield Path(folder)
