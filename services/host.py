"""Runs the halves of a party's runs, one step at a time, so that a crash anywhere costs at most the step under way.

Rules:
- Control messages (`run.*`, `product.*`) go to the program's desk, everything else to the run's half.
- Artifacts are handed over in their sender's order; the order among senders is written down before the hand-over,
  and a restarted half is given the same artifacts in the same order.
- A step that was finished is skipped; a step that leaves something is finished in the transaction that seals it.
- A half that crashes three times over the same thing fails its run, never its party; a control message over which
  the desk crashes three times is refused.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from services.chain import AUDIT, Chain
from services.contract import Context, Done, Failed, Half, HalfFactory, ProgressCallback, Received, Step, Work
from services.courier import OUTLIVING, Courier, RunOver
from services.errors import InvalidArtifact, SilokitError, TrustError
from services.files import private_folder, remove_tree, sync_folder
from services.runs import ENDINGS, OFFER, Run, RunBook, RunKeys
from services.state import LIVE, State

MAX_CRASHES = 3
_PROGRESS_EVERY = 0.5  # seconds between two records of progress
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_DISK_WAIT = 5.0  # seconds
_log = structlog.get_logger()

_FOR_DESK = "(kind LIKE 'run.%' OR kind LIKE 'product.%')"
# Rows that may be handed over: nothing of the same sender and run is missing below them.
_IN_ORDER = """
SELECT * FROM inbox AS i WHERE state IN ('ready', 'handed') AND sequence =
  (SELECT count(*) FROM inbox AS j WHERE j.sender=i.sender AND j.run=i.run AND j.sequence <= i.sequence)
"""


class Stopped(Exception):
    """Raised through a computation whose run was ended or whose host is stopping."""


class Desk(Protocol):
    """The program's side of a run's life."""

    def control(self, run: str, artifact: Received) -> None:
        """Act on a control message.

        Raises:
            InvalidArtifact: it is not what it should be; it is quarantined.
        """

    def tick(self) -> None:
        """Look after deadlines, queues and what must be told of runs that ended; called often."""


@dataclass
class _Active:
    half: Half
    cursor: int  # the highest hand-over number this half has seen


class Host:
    """Drives the halves; every method but `interrupt`, `heed_endings` and `stop` belongs to the worker's thread.

    Args:
        state: the party's state.
        courier: its door.
        keys: its run keys.
        load: finds the factory of a protocol's half.
        context: makes what a half may know about a run.
        outputs: the folder that results go to, one folder per run.
        clock: the present.
    """

    def __init__(
        self,
        *,
        state: State,
        courier: Courier,
        keys: RunKeys,
        load: Callable[[str], HalfFactory],
        context: Callable[[Run, Path], Context],
        outputs: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._state = state
        self._courier = courier
        self._keys = keys
        self._load = load
        self._context = context
        self._outputs = outputs
        self._runs = private_folder(state.folder / "runs")
        self._clock = clock
        self._book = RunBook(state)
        self._active: dict[str, _Active] = {}
        self._interrupted: set[str] = set()
        self._stopping = threading.Event()
        self._touched = False  # whether the work under way has reported progress

    def stop(self) -> None:
        """Ask work under way to unwind at its next report of progress."""
        self._stopping.set()

    def interrupt(self, run: str) -> None:
        """Ask the work of one run to unwind: its end has been heard or said."""
        self._interrupted.add(run)

    def heed_endings(self) -> int:
        """Interrupt the runs whose end lies in the inbox, for as long as it lies there; returns how many there are."""
        marks = ",".join("?" * len(ENDINGS))
        ends = self._state.rows(_IN_ORDER + f"AND kind IN ({marks})", *sorted(ENDINGS))
        for row in ends:
            self.interrupt(row["run"])
        return len(ends)

    def work_once(self, desk: Desk) -> bool:
        """Do the next thing there is to do; returns False when there was nothing."""
        self._clean()
        desk.tick()
        return self._do_control(desk) or self._do_runs()

    # control messages

    def _do_control(self, desk: Desk) -> bool:
        for row in self._state.rows(_IN_ORDER + f"AND {_FOR_DESK} ORDER BY received"):
            run = self._book.find(row["run"])
            if run is None and row["kind"] != OFFER:
                continue  # it overtook its offer: it waits
            if run is not None and run.phase not in LIVE and not row["kind"].startswith(OUTLIVING):
                self._mark(row, "skipped")
                continue
            if self._control(desk, row):
                return True
        return False

    @staticmethod
    def _bearable(times: int) -> None:
        if times > MAX_CRASHES:
            raise InvalidArtifact(f"the process died {MAX_CRASHES} times over this message")

    def _control(self, desk: Desk, row: Any) -> bool:
        """Give the desk one message; returns False when it can be judged only later."""
        times = self._attempt(row, +1)
        try:
            self._bearable(times)
            desk.control(row["run"], _received(row))
            self._mark(row, "done")
        except InvalidArtifact as error:
            self._refuse(row, error)
        except TrustError:  # stale trust: local work goes on meanwhile
            self._attempt(row, -1)
            return False
        except Exception as error:
            if _is_disk(error):
                self._attempt(row, -1)
                raise
            _log.error("the desk crashed", run=row["run"], kind=row["kind"], times=times, **_where(error))
            if times < MAX_CRASHES:
                return True
            self._refuse(row, InvalidArtifact(f"the desk crashed {times} times over it ({type(error).__name__})"))
        Path(row["path"]).unlink(missing_ok=True)
        return True

    # runs

    def _do_runs(self) -> bool:
        self._interrupted.clear()  # before the look: who interrupts a run has ended it first, or says it again
        for run in self._book.live("running"):
            if run.run not in self._active:
                self._begin(run)
                return True
            if self._clock() > run.deadline:
                self._expire(run)
                return True
            row = self._next(run.run)
            if row is not None:
                self._hand(run, row)
                return True
        return False

    def _begin(self, run: Run) -> None:
        workspace = private_folder(self._runs / run.run / "work")
        try:
            half = self._load(run.protocol)(self._context(run, workspace))
        except SilokitError as error:
            self._end(run, Failed(error.what))
            return
        except Exception as error:  # noqa: BLE001 - as in _drive
            self._touched = True  # nothing was counted yet
            self._crashed(run, None, error)
            return
        active = self._active[run.run] = _Active(half, 0)
        if not self._drive(run, None, lambda half: half.begin()):
            return
        for row in self._state.rows(
            "SELECT * FROM inbox WHERE run=? AND state='done' AND handed IS NOT NULL ORDER BY handed", run.run
        ):
            active.cursor = row["handed"]
            if not self._drive(run, row, lambda half, row=row: half.receive(_received(row))):  # type: ignore[misc]
                return

    def _next(self, run: str) -> Any:
        return self._state.row(
            _IN_ORDER + f"AND run=? AND NOT {_FOR_DESK} ORDER BY handed IS NULL, handed, received, sender LIMIT 1", run
        )

    def _hand(self, run: Run, row: Any) -> None:
        active = self._active[run.run]
        order = row["handed"] or active.cursor + 1
        self._state.write(
            "UPDATE inbox SET state='handed', handed=? WHERE sender=? AND run=? AND sequence=?",
            *(order, row["sender"], row["run"], row["sequence"]),
        )
        active.cursor = max(order, active.cursor)
        if self._drive(run, row, lambda half: half.receive(_received(row))):
            self._mark(row, "done")

    def _drive(self, run: Run, row: Any, event: Callable[[Half], Iterator[Step]]) -> bool:
        """Run one event's steps; returns whether all of them were done and the run goes on."""
        self._touched = False
        if self._count(run, row, +1) > MAX_CRASHES:
            self._end(run, Failed(f"the process died {MAX_CRASHES} times at the same place"))
            return False
        try:
            end = self._steps(run, row, event(self._active[run.run].half))
        except (Stopped, RunOver):
            self._touch(run, row)
            if self._clock() > run.deadline:
                self._expire(run)
            self._active.pop(run.run, None)
        except InvalidArtifact as error:
            if row is None:
                self._end(run, Failed(error.what))
            else:
                self._refuse(row, error)
        except SilokitError as error:
            self._end(run, Failed(error.what))
        except Exception as error:  # noqa: BLE001 - whatever a protocol does wrong ends its run, not the party
            self._crashed(run, row, error)
        else:
            self._touch(run, row)
            if end is None:
                return True
            self._end(run, end)
        return False

    def _steps(self, run: Run, row: Any, steps: Iterator[Step]) -> Done | Failed | None:
        for step in steps:
            if not isinstance(step, Work):
                return step
            self._do(run, row, step)
        return None

    def _expire(self, run: Run) -> None:
        self._drive(run, None, lambda half: half.deadline("run"))
        self._end(run, Failed("the deadline passed"))

    def _do(self, run: Run, row: Any, work: Work) -> None:
        if self._state.finished(run.run, work.key):
            return
        _log.info("work", run=run.run, step=work.key)
        started = time.monotonic()
        message = work.compute(self._progress(run, row, work.key))
        seconds = time.monotonic() - started
        self._touch(run, row)
        if message is None:
            self._state.finish(run.run, work.key, self._clock(), seconds)
            return
        self._courier.send(
            *(run.run, work.key, message, run.keys(work.to)),
            expires=run.deadline, seconds=seconds, schema_hash=run.spec_hash,
        )  # fmt: skip

    def _progress(self, run: Run, row: Any, step_name: str) -> ProgressCallback:
        last = 0.0

        def report(phase: str, step: int, total: int, loss: float | None) -> None:
            nonlocal last
            if self._stopping.is_set() or run.run in self._interrupted or self._clock() > run.deadline:
                raise Stopped
            self._touch(run, row)
            now = time.monotonic()
            if now - last < _PROGRESS_EVERY and step < total:
                return
            last = now
            progress = {"step": step_name, "phase": phase, "done": step, "total": total, "loss": loss}
            self._book.note_progress(run.run, progress)
            _log.info("progress", run=run.run, **progress)

        return report

    # crashes: counted before the attempt, so that a dying process counts too, and taken back once the half works

    def _count(self, run: Run, row: Any, change: int) -> int:
        return self._book.note_crash(run.run, change) if row is None else self._attempt(row, change)

    def _attempt(self, row: Any, change: int) -> int:
        where = "WHERE sender=? AND run=? AND sequence=?"
        place = (row["sender"], row["run"], row["sequence"])
        self._state.write(f"UPDATE inbox SET attempts=attempts+? {where}", change, *place)
        return int(self._state.rows(f"SELECT attempts FROM inbox {where}", *place)[0]["attempts"])

    def _touch(self, run: Run, row: Any) -> None:
        if not self._touched:
            self._touched = True
            self._count(run, row, -1)

    def _crashed(self, run: Run, row: Any, error: Exception) -> None:
        self._active.pop(run.run, None)
        if _is_disk(error):
            # nothing is wrong with the half: wait for space
            self._touch(run, row)
            _log.error("the disk does not take more: the run waits", run=run.run, error=str(error))
            self._stopping.wait(_DISK_WAIT)
            return
        times = self._count(run, row, +1 if self._touched else 0)
        _log.error("the half crashed", run=run.run, times=times, **_where(error))
        if times >= MAX_CRASHES:
            self._end(run, Failed(f"the protocol crashed {times} times ({type(error).__name__})"))

    def _refuse(self, row: Any, error: InvalidArtifact) -> None:
        _log.warning("artifact refused", run=row["run"], sender=row["sender"], reason=error.what)
        with self._state.transaction():
            name = f"{row['sender']}/{row['run']}/{row['digest']}"
            self._state.quarantine(name, error.what, self._clock())
            Chain(self._state, AUDIT).append("quarantined", self._clock(), manifest=name, reason=error.what)
            self._mark(row, "refused")

    def _mark(self, row: Any, state: str) -> None:
        self._state.write(
            "UPDATE inbox SET state=? WHERE sender=? AND run=? AND sequence=?",
            *(state, row["sender"], row["run"], row["sequence"]),
        )

    # ends

    def _end(self, run: Run, how: Done | Failed) -> None:
        self._active.pop(run.run, None)
        if isinstance(how, Done):
            self._publish(run.run, how)
        phase, detail = ("done", "") if isinstance(how, Done) else ("failed", how.reason)
        if self._book.move(run.run, phase, self._clock(), detail, only=("running",)):  # type: ignore[arg-type]
            _log.info("run ended", run=run.run, phase=phase, detail=detail)

    def _publish(self, run: str, done: Done) -> None:
        target = private_folder(self._outputs / run)
        for name, path in done.outputs.items():
            temporary = target / f".tmp-{name}"
            shutil.copyfile(path, temporary)
            temporary.rename(target / name)
        sync_folder(target)

    def _clean(self) -> None:
        """Plaintext goes with its run; run keys go after their grace. What lies on the disk says what is left to do."""
        for folder in self._runs.iterdir():
            run = self._book.find(folder.name)
            if run is not None and run.phase not in LIVE:
                self._active.pop(run.run, None)
                remove_tree(folder)
        self._keys.sweep(self._book.find, self._clock())


def _is_disk(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) or getattr(error, "errno", None) in _DISK_FULL


def _where(error: Exception) -> dict[str, str]:
    """What a log may say of an exception: its type and place. Its words may quote a value of a private row."""
    places = (
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    return {"error": type(error).__name__, "where": " > ".join(places)}


def _received(row: Any) -> Received:
    return Received(sender=row["sender"], kind=row["kind"], path=Path(row["path"]), digest=row["digest"])
