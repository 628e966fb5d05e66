"""Logs: JSON lines for machines, short lines for a terminal; never a payload, a row or an identifier."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import structlog

from services.files import private_folder
from services.home import RECENT


class Troubles:
    """Says a trouble that lasts once, and again when its reason changes: who looks often must not fill the log."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def say(self, run: str, reason: str) -> None:
        """Warn that a run waits."""
        if self._said.get(run) != reason:
            self._said[run] = reason
            structlog.get_logger().warning("waits", run=run, reason=reason)


class Recent:
    """Keeps a service's last lines in its private folder, for a support bundle: two files that take turns.

    An exception is kept by its name alone, for its words may quote what it met. A line that cannot be written is left
    out: the log itself goes on.

    Args:
        home: the private folder; made when absent.
        limit: bytes per file.
    """

    def __init__(self, home: Path, limit: int = 256 << 10) -> None:
        self._home = home
        self._now, self._before = (home / name for name in RECENT)
        self._limit = limit
        self._turn = threading.Lock()

    def __call__(self, _logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """See structlog's processors; passes the event on as it is."""
        facts = {key: value for key, value in event.items() if key != "exc_info"}
        if error := sys.exc_info()[0]:
            facts["exception"] = error.__name__
        with self._turn, suppress(OSError):
            private_folder(self._home)
            with os.fdopen(os.open(self._now, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
                file.write(json.dumps(facts, default=str) + "\n")
                full = file.tell() >= self._limit
            if full:
                self._now.replace(self._before)
        return event


def configure(form: Literal["json", "text"] = "json", level: str = "info", *, recent: Path | None = None) -> None:
    """Send the log to standard error, a JSON object per line or coloured text.

    Args:
        form: which of the two.
        level: the lowest level to log.
        recent: the private folder of a service, which keeps its last lines; see `Recent`.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if recent is not None:
        processors.append(Recent(recent))
    if form == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
