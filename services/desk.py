"""The program's side of a run's life, and how control messages reach it.

A message waits for its run's offer, for as long as the desk says, and for nothing else that was sent before it. One
over which the desk crashes three times is refused; one that can be judged only later waits and holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog

from services.contract import Received
from services.courier import OUTLIVING
from services.crashes import MAX_CRASHES, is_disk, where
from services.errors import InvalidArtifact, TrustError
from services.inbox import Inbox, received
from services.runs import OFFER, Run, RunBook
from services.state import LIVE

_log = structlog.get_logger()


class Desk(Protocol):
    """The program's side of a run's life.

    Attributes:
        early: for how long a message may wait for the offer of its run.
    """

    early: timedelta

    def control(self, run: str, artifact: Received) -> None:
        """Act on a control message.

        Raises:
            InvalidArtifact: it is not what it should be; it is quarantined.
        """

    def tick(self) -> None:
        """Look after deadlines, queues and what must be told of runs that ended; called often."""


def survive(run: Run, error: Exception, book: RunBook, now: datetime) -> None:
    """End a run whose care crashed: it would crash at every look, and the party's other runs have done nothing wrong.

    Raises:
        Exception: the disk was to blame, and not the run.
    """
    if is_disk(error):
        raise error
    _log.error("the desk crashed", run=run.run, **where(error))
    book.move(run.run, "failed", now, f"the program crashed over it ({type(error).__name__})")


class Reception:
    """Gives a desk its messages.

    Args:
        inbox: where they lie.
        book: the party's runs.
        clock: the present.
    """

    def __init__(self, inbox: Inbox, book: RunBook, clock: Callable[[], datetime]) -> None:
        self._inbox = inbox
        self._book = book
        self._clock = clock

    def attend(self, desk: Desk) -> bool:
        """Give the desk the next message; returns False when there is none for now."""
        for row in self._inbox.for_desk():
            run = self._book.find(row["run"])
            if run is None and row["kind"] != OFFER:
                if self._clock() - datetime.fromisoformat(row["received"]) < desk.early:
                    continue  # it overtook its offer: it waits
                self._inbox.refuse(row, InvalidArtifact("the message is of a run that was never offered here"))
            elif run is not None and run.phase not in LIVE and not row["kind"].startswith(OUTLIVING):
                self._inbox.mark(row, "skipped")
            elif self._give(desk, row):
                return True
            else:
                continue
            _remove(row)
        return False

    def _give(self, desk: Desk, row: Any) -> bool:
        """Give the desk one message; returns False when it can be judged only later."""
        times = self._inbox.attempt(row, +1)
        try:
            _bearable(times)
            desk.control(row["run"], received(row))
            self._inbox.mark(row, "done")
        except InvalidArtifact as error:
            self._inbox.refuse(row, error)
        except TrustError:  # stale trust: local work goes on meanwhile
            self._inbox.attempt(row, -1)
            return False
        except Exception as error:
            if is_disk(error):
                self._inbox.attempt(row, -1)
                raise
            _log.error("the desk crashed", run=row["run"], kind=row["kind"], times=times, **where(error))
            if times < MAX_CRASHES:
                return True
            reason = f"the desk crashed {times} times over it ({type(error).__name__})"
            self._inbox.refuse(row, InvalidArtifact(reason))
        _remove(row)
        return True


def _remove(row: Any) -> None:
    Path(row["path"]).unlink(missing_ok=True)


def _bearable(times: int) -> None:
    if times > MAX_CRASHES:
        raise InvalidArtifact(f"the process died {MAX_CRASHES} times over this message")
