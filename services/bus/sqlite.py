"""An SQLite file as event bus: for one machine, safe for several processes at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.bus import BusError, Notice


class SqliteBus:
    """An `EventBus` in one SQLite file in write-ahead mode.

    Args:
        path: the file, shared by all parties.
        me: whose notices `consume` returns.

    Raises:
        BusError: the file cannot be opened.
    """

    def __init__(self, path: Path, me: str) -> None:
        self._me = me
        self._guard = threading.Lock()
        with _bus_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a lost notice is found again by listing
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS notices "
                "(id INTEGER PRIMARY KEY AUTOINCREMENT, recipient TEXT NOT NULL, object TEXT NOT NULL)"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS by_recipient ON notices (recipient, id)")

    def announce(self, recipient: str, notice: Notice) -> None:
        """See `EventBus.announce`."""
        with self._guard, _bus_errors():
            self._db.execute("INSERT INTO notices (recipient, object) VALUES (?, ?)", (recipient, notice.object))

    def consume(self, limit: int = 100) -> list[Notice]:
        """See `EventBus.consume`."""
        with self._guard, _bus_errors():
            found = self._db.execute(
                "SELECT id, object FROM notices WHERE recipient=? ORDER BY id LIMIT ?", (self._me, limit)
            ).fetchall()
        return [Notice(object=str(obj), token=str(number)) for number, obj in found]

    def acknowledge(self, notice: Notice) -> None:
        """See `EventBus.acknowledge`."""
        with self._guard, _bus_errors():
            self._db.execute("DELETE FROM notices WHERE id=? AND recipient=?", (int(notice.token), self._me))

    def wait_ready(self, seconds: float) -> None:
        """See `EventBus.wait_ready`: an open file is ready."""

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            self._db.close()


@contextmanager
def _bus_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise BusError(
            f"the event bus does not answer ({error})",
            fix="check the bus file's folder: free space and permissions",
            kept="notices wait in the outbox; the store is listed all the same",
        ) from error
