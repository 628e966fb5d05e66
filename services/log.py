"""Logs: JSON lines for machines, short lines for a terminal; never a payload, a row or an identifier."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


class Troubles:
    """Says a trouble that lasts once, and again when its reason changes: who looks often must not fill the log."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def say(self, run: str, reason: str) -> None:
        """Warn that a run waits."""
        if self._said.get(run) != reason:
            self._said[run] = reason
            structlog.get_logger().warning("waits", run=run, reason=reason)


def configure(form: Literal["json", "text"] = "json", level: str = "info") -> None:
    """Send the log to standard error, a JSON object per line or coloured text."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
