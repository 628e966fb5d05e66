"""Every place where a party touches the world: counted in a clean run, and one of them armed in a deadly one.

A boundary is a commit of the state file, a call of the store or of the bus, sealing and opening, and every system call
that makes a file last (fsync, link, rename, unlink, rmdir). It is named by what is done and by the nearest line of the
kit that asks for it, so that one line that is reached in several ways, or several times, is several points.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import services.courier.incoming
import services.courier.outgoing
from services.bus.sqlite import SqliteBus
from services.state import State
from services.store.folder import FolderStore

REPOSITORY = Path(__file__).parents[2]
_KIT = tuple(f"{REPOSITORY / part}{os.sep}" for part in ("services", "protocols", "coordinator", "silo_agent"))
_NOBODY = str(REPOSITORY / "services" / "state.py")  # who asks the state file for a commit is its caller
_CALLS: tuple[tuple[Any, str], ...] = (
    *((FolderStore, name) for name in ("put", "replace", "get", "read", "list", "delete")),
    *((SqliteBus, name) for name in ("announce", "consume", "acknowledge")),
    (services.courier.outgoing, "seal"),
    (services.courier.incoming, "open_sealed"),
    *((os, name) for name in ("fsync", "link", "rename", "replace", "unlink", "rmdir")),
)


class Point(NamedTuple):
    """One moment to die at: before or after the n-th time that a site is passed."""

    site: str
    moment: str
    count: int


class Boundaries:
    """What every boundary of this process calls.

    Args:
        fatal: where the process dies; nowhere when there is none.
        record: a file that every passed point is appended to; none when there is none.
    """

    def __init__(self, fatal: Point | None = None, record: Path | None = None) -> None:
        self._fatal = fatal
        self._path = record
        self._record: int | None = None
        self._passed: Counter[tuple[str, str]] = Counter()

    def install(self) -> None:
        """Instrument this process for the rest of its life."""
        if self._path is not None:
            self._record = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for owner, name in _CALLS:
            setattr(owner, name, self._around(getattr(owner, name), name))
        State.transaction = self._transaction(State.transaction)  # type: ignore[method-assign, assignment]

    def passes(self, what: str, moment: str) -> None:
        """Write down that this moment has come, and die when it is the fatal one."""
        site = f"{what} {_asker()}"
        self._passed[site, moment] += 1
        point = Point(site, moment, self._passed[site, moment])
        if self._record is not None:
            os.write(self._record, ("\t".join(map(str, point)) + "\n").encode())
        if point == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, call: Callable[..., Any], what: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def passing(*args: Any, **kwargs: Any) -> Any:
            self.passes(what, "before")
            found = call(*args, **kwargs)
            self.passes(what, "after")
            return found

        return passing

    def _transaction(self, transaction: Any) -> Any:
        @contextmanager
        def passing(state: State) -> Iterator[None]:
            if state._db.in_transaction:  # only the outermost one commits
                with transaction(state):
                    yield
                return
            with transaction(state):
                yield
                self.passes("commit", "before")
            self.passes("commit", "after")

        return passing


def _asker() -> str:
    """The nearest line of the kit, and the line that asked for it."""
    frame: Any = sys._getframe(2)
    lines: list[str] = []
    while frame is not None and len(lines) < 2:
        name = frame.f_code.co_filename
        if name.startswith(_KIT) and name != _NOBODY:
            lines.append(f"{Path(name).relative_to(REPOSITORY)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines)


def read_points(record: Path) -> list[Point]:
    """What a recorded life passed, in order."""
    lines = (line.split("\t") for line in record.read_text(encoding="utf-8").splitlines())
    return [Point(site, moment, int(count)) for site, moment, count in lines]
