"""Crashes, counted before the attempt so that a dying process counts too, and taken back once the half works."""

from __future__ import annotations

import errno
import sqlite3
import traceback
from pathlib import Path
from typing import Any

from services.inbox import Inbox
from services.runs import RunBook

MAX_CRASHES = 3
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class Crashes:
    """Counts crashes over one event at a time: over an artifact's row, or over the run outside any (`row` is None).

    Args:
        book: counts what happens outside an artifact.
        inbox: counts what happens over one.
    """

    def __init__(self, book: RunBook, inbox: Inbox) -> None:
        self._book = book
        self._inbox = inbox
        self._working = False  # whether the event under way has shown that it works, and is counted no more

    def attempt(self, run: str, row: Any) -> int:
        """An event begins; returns how many attempts at it have not shown that they work."""
        self._working = False
        return self._count(run, row, +1)

    def outside(self) -> None:
        """What follows is no event: a crash in it was not counted beforehand."""
        self._working = True

    def works(self, run: str, row: Any) -> None:
        """The event's half reports: take its attempt back."""
        if not self._working:
            self._working = True
            self._count(run, row, -1)

    def crashed(self, run: str, row: Any) -> int:
        """The event's half crashed; returns how many times it did."""
        return self._count(run, row, +1 if self._working else 0)

    def _count(self, run: str, row: Any, change: int) -> int:
        return self._book.note_crash(run, change) if row is None else self._inbox.attempt(row, change)


def is_disk(error: Exception) -> bool:
    """Whether the disk is to blame: nothing is wrong with who met it."""
    return isinstance(error, sqlite3.OperationalError) or getattr(error, "errno", None) in _DISK_FULL


def where(error: Exception) -> dict[str, str]:
    """What a log may say of an exception: its type and place. Its words may quote a value of a private row."""
    places = (
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    return {"error": type(error).__name__, "where": " > ".join(places)}
