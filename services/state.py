"""One SQLite file per party: whatever must survive a crash, changed in transactions and by one process at a time.

Rules:
- What leaves is recorded before it leaves: a finished step and its sealed artifact are one transaction.
- What arrives is recorded before it is acknowledged.
- A second process with the same identity is refused by a lock on the file's folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from services.errors import StateError
from services.home import LOCK, STATE_FILE
from services.versions import program_version

_FIRST = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE runs (
  run TEXT PRIMARY KEY,
  phase TEXT NOT NULL,
  spec TEXT NOT NULL,           -- the run specification, exactly as offered
  coordinator TEXT NOT NULL,
  created TEXT NOT NULL,
  deadline TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '',
  ended TEXT,
  parties TEXT NOT NULL DEFAULT '{}',  -- party -> its public run key, as they join
  progress TEXT NOT NULL DEFAULT '{}',
  attempts INTEGER NOT NULL DEFAULT 0  -- crashes of the half outside an artifact
);
CREATE TABLE steps (
  run TEXT NOT NULL, step TEXT NOT NULL, finished TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (run, step)
);
CREATE TABLE outbox (
  run TEXT NOT NULL, sequence INTEGER NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
  recipients TEXT NOT NULL,     -- names, a JSON list
  body TEXT NOT NULL, bytes INTEGER NOT NULL, manifest BLOB NOT NULL,
  sealed TEXT NOT NULL, sent TEXT,
  PRIMARY KEY (run, sequence)
);
CREATE TABLE arrivals (
  object TEXT PRIMARY KEY,      -- the manifest's key in the store
  arrived TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, outcome TEXT
);
CREATE INDEX waiting ON arrivals (object) WHERE outcome IS NULL;
CREATE TABLE inbox (
  sender TEXT NOT NULL, run TEXT NOT NULL, sequence INTEGER NOT NULL,
  digest TEXT NOT NULL, previous TEXT, kind TEXT NOT NULL, path TEXT,
  state TEXT NOT NULL,          -- ready | handed | done | skipped | refused
  handed INTEGER, attempts INTEGER NOT NULL DEFAULT 0, received TEXT NOT NULL,
  PRIMARY KEY (sender, run, sequence)
);
CREATE TABLE chains (
  chain TEXT NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL, head TEXT NOT NULL,
  PRIMARY KEY (chain, number)
);
CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, object TEXT NOT NULL,
  reason TEXT NOT NULL, alarm INTEGER NOT NULL
);
"""
# both derive from the ledger's chain, which has the last word: they spare its replay at every charge
_LEDGER = """
CREATE TABLE charges (
  run TEXT NOT NULL, step TEXT NOT NULL, dataset TEXT NOT NULL,
  mechanism TEXT NOT NULL,      -- canonical JSON
  delta REAL NOT NULL, approver TEXT NOT NULL, reserved TEXT NOT NULL,
  digest TEXT,                  -- of the release; NULL until it is committed
  PRIMARY KEY (run, step)
);
CREATE TABLE spent (
  dataset TEXT NOT NULL, mechanism TEXT NOT NULL, times INTEGER NOT NULL,
  PRIMARY KEY (dataset, mechanism)
);
"""
# what the others list in the federation's pool, as it was at the last refresh
_POOL = """
CREATE TABLE pool (
  silo TEXT NOT NULL, digest TEXT NOT NULL,  -- of the manifest by which the generator was first published
  sha256 TEXT NOT NULL, length INTEGER NOT NULL,
  about TEXT NOT NULL,          -- what its silo says of it, JSON
  epsilon REAL,                 -- recomputed; NULL when the claim does not add up
  state TEXT NOT NULL,          -- listed | pulled | refused | withdrawn
  why TEXT NOT NULL,
  PRIMARY KEY (silo, digest)
);
"""
# what is looked for many times a second lies among what has long been done
_OPEN = """
CREATE INDEX unsent ON outbox (run, sequence) WHERE sent IS NULL;
CREATE INDEX unread ON inbox (run) WHERE state IN ('ready', 'handed');
"""
_VERSIONS = (_FIRST, _LEDGER, _POOL, _OPEN)
"""What each version of the file added: a new file goes through all of them, an old one through those it lacks."""
SCHEMA_VERSION = len(_VERSIONS)

Phase = Literal["offered", "queued", "joined", "running", "done", "failed", "declined", "cancelled"]
LIVE: tuple[Phase, ...] = ("offered", "queued", "joined", "running")
CALLED_OFF: tuple[Phase, ...] = ("failed", "declined", "cancelled")
QUARANTINE_ROWS = 10_000
_WRITTEN_BY = "written by"  # the program that brought the file to its version


def now_text(moment: datetime) -> str:
    """A moment as the state file writes it: ISO 8601, UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class State:
    """The state file of one party, shared by the threads of one process.

    Args:
        folder: the party's private folder; made with mode 0700.
        writer: take the lock that makes this process the party; readers (status commands) do without.

    Raises:
        StateError: another process is this party, or the file was written by a newer version.
    """

    def __init__(self, folder: Path, *, writer: bool = True) -> None:
        self.folder = folder
        self.path = folder / STATE_FILE
        self._guard = threading.RLock()
        self._lock_file: int | None = None
        if writer:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock()
        elif not self.path.exists():
            raise StateError(f"there is no state in {folder}", fix="start the service once, or name the right --config")
        self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA journal_mode=WAL" if writer else "PRAGMA query_only=ON")
        try:
            self._migrate(writer=writer)
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        self._lock_file = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_file)
            raise StateError(
                f"another process is already this party (lock on {self.folder})",
                fix="stop it first; two agents with one identity would contradict each other",
                kept="everything: this process changed nothing",
            ) from None

    def _migrate(self, *, writer: bool) -> None:
        version = self._version()
        me = f"silokit {program_version()}"
        if version > SCHEMA_VERSION:
            by = self.fact(_WRITTEN_BY) or "a newer program"
            raise StateError(
                f"the state file has version {version}, made by {by}; this program, {me}, knows version"
                f" {SCHEMA_VERSION}",
                fix=f"run {by} again: going back would lose entries; or restore a backup from before the change,"
                " which is refused if this party has published anything since",
                kept="everything: this program changed nothing",
            )
        if version < SCHEMA_VERSION and not writer:
            raise StateError(
                f"the state file has version {version}; this program, {me}, needs version {SCHEMA_VERSION}",
                fix="start the service once with this program: it brings the file up to date",
            )
        if version < SCHEMA_VERSION:
            with self.transaction():
                for missing in _VERSIONS[self._version() :]:
                    for statement in missing.split(";\n"):
                        if statement.strip():
                            self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                self.remember(_WRITTEN_BY, me)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the file and let another process be this party."""
        with self._guard:
            self._db.close()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; transactions nest into the outermost one."""
        with self._guard:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Whatever is read within is of one moment, also while another process writes; nothing is written within."""
        with self._guard:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def write(self, statement: str, *values: Any) -> int:
        """Run one change; returns how many rows it touched."""
        with self.transaction():
            return self._db.execute(statement, values).rowcount

    def rows(self, query: str, *values: Any) -> Sequence[sqlite3.Row]:
        """All rows of a query."""
        with self._guard:
            return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, if there is one."""
        found = self.rows(query, *values)
        return found[0] if found else None

    # facts: small things remembered for life

    def fact(self, name: str) -> Any:
        """A remembered JSON value; None when there is none."""
        found = self.row("SELECT value FROM facts WHERE name=?", name)
        return json.loads(found["value"]) if found else None

    def remember(self, name: str, value: Any) -> None:
        """Remember a JSON value for life."""
        self.write("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, json.dumps(value))

    # steps: what is finished is never computed again

    def finished(self, run: str, step: str) -> bool:
        """Whether this step of the run was finished before."""
        return self.row("SELECT 1 FROM steps WHERE run=? AND step=?", run, step) is not None

    def finish(self, run: str, step: str, at: datetime, seconds: float) -> None:
        """Record a step as finished."""
        self.write("INSERT INTO steps VALUES (?, ?, ?, ?)", run, step, now_text(at), seconds)

    # quarantine

    def quarantine(self, obj: str, reason: str, at: datetime, *, alarm: bool = False) -> None:
        """Set an artifact aside with its reason; of more than QUARANTINE_ROWS the middle makes room, alarms apart."""
        place = "SELECT id FROM quarantine WHERE alarm=? ORDER BY id"
        half = QUARANTINE_ROWS // 2
        with self.transaction():
            self.write(
                "INSERT INTO quarantine (at, object, reason, alarm) VALUES (?,?,?,?)",
                *(now_text(at), obj, reason, int(alarm)),
            )
            self.write(
                f"DELETE FROM quarantine WHERE id IN ({place} DESC LIMIT -1 OFFSET ?) AND id NOT IN ({place} LIMIT ?)",
                *(int(alarm), half, int(alarm), half),
            )
