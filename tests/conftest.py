"""What tests measure is shown at the end of the session, from whichever process it was measured in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest_plugins = ["tests.wire.fixtures", "tests.wire.object_fixtures"]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells a figure that the session shows at its end."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show every figure."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    figures = sorted({str(text) for report in reports for name, text in report.user_properties if name == "figure"})
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.write_line(text)
