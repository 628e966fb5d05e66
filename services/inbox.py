"""What was received and waits to be handed over.

A half is given each sender's artifacts in their order; the order among senders is written down before each hand-over,
so that who starts again is given the same artifacts in it. What is for the desk stands for itself and waits for nothing
that was sent before: its sender may have withheld or purged that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from services.chain import AUDIT, Chain
from services.contract import Received
from services.errors import InvalidArtifact
from services.metrics import QUARANTINED
from services.runs import ENDINGS
from services.state import State

_log = structlog.get_logger()

_WAITING = "SELECT * FROM inbox AS i WHERE state IN ('ready', 'handed')"
_FOR_DESK = "(kind LIKE 'run.%' OR kind LIKE 'product.%')"
# Nothing of the same sender and run is missing below the row.
_IN_ORDER = """
sequence = (SELECT count(*) FROM inbox AS j WHERE j.sender=i.sender AND j.run=i.run AND j.sequence <= i.sequence)
"""


class Inbox:
    """The received artifacts of a party; a row is one of them.

    Args:
        state: the party's state.
        clock: the present.
    """

    def __init__(self, state: State, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock

    def endings(self) -> Sequence[Any]:
        """What tells of a run's end and was not read yet, whoever says it."""
        marks = ",".join("?" * len(ENDINGS))
        return self._state.rows(f"{_WAITING} AND kind IN ({marks})", *sorted(ENDINGS))

    def for_desk(self) -> Sequence[Any]:
        """Control messages to hand over, in the order of their arrival."""
        return self._state.rows(f"{_WAITING} AND {_FOR_DESK} ORDER BY received")

    def for_half(self, run: str) -> Any:
        """What the run's half is handed next; None when there is nothing."""
        return self._state.row(
            f"{_WAITING} AND run=? AND NOT {_FOR_DESK} AND {_IN_ORDER}"
            "ORDER BY handed IS NULL, handed, received, sender LIMIT 1",
            run,
        )

    def handed(self, run: str) -> Sequence[Any]:
        """What the run's half was handed and has finished with, in that order."""
        return self._state.rows(
            "SELECT * FROM inbox WHERE run=? AND state='done' AND handed IS NOT NULL ORDER BY handed", run
        )

    def hand(self, row: Any, order: int) -> None:
        """Write down that the row is handed over, as number `order` of its run."""
        self._change(row, "state='handed', handed=?", order)

    def mark(self, row: Any, state: str) -> None:
        """Write down what became of the row."""
        self._change(row, "state=?", state)

    def attempt(self, row: Any, change: int) -> int:
        """Count an attempt at the row, or take it back; returns how many there were."""
        self._change(row, "attempts=attempts+?", change)
        place = (row["sender"], row["run"], row["sequence"])
        found = self._state.rows("SELECT attempts FROM inbox WHERE sender=? AND run=? AND sequence=?", *place)
        return int(found[0]["attempts"])

    def refuse(self, row: Any, error: InvalidArtifact) -> None:
        """Set the artifact aside: who read it found it to be something else than it should be."""
        _log.warning("artifact refused", run=row["run"], sender=row["sender"], reason=error.what)
        with self._state.transaction():
            name = f"{row['sender']}/{row['run']}/{row['digest']}"
            self._state.quarantine(name, error.what, self._clock())
            Chain(self._state, AUDIT).append("quarantined", self._clock(), manifest=name, reason=error.what)
            self.mark(row, "refused")
        QUARANTINED.labels("content").inc()

    def _change(self, row: Any, what: str, value: Any) -> None:
        place = (row["sender"], row["run"], row["sequence"])
        self._state.write(f"UPDATE inbox SET {what} WHERE sender=? AND run=? AND sequence=?", value, *place)


def received(row: Any) -> Received:
    """The artifact of a row, as a half or a desk sees it."""
    return Received(sender=row["sender"], kind=row["kind"], path=Path(row["path"]), digest=row["digest"])
