"""Runs the halves of a party's runs, one step at a time, so that a crash anywhere costs at most the step under way.

Rules:
- Control messages (`run.*`, `product.*`) go to the program's desk, everything else to the run's half.
- A half is given artifacts in their sender's order; the order among senders is written down before the hand-over,
  and a restarted half is given the same artifacts in the same order.
- A step that was finished is skipped; a step that leaves something is finished in the transaction that seals it.
- A half that crashes three times over the same thing fails its run, never its party.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from services.artifact import Spend
from services.contract import Context, Done, Failed, Half, HalfFactory, Message, ProgressCallback, Step, Work
from services.courier import CONTROL, Courier, RunOver
from services.crashes import MAX_CRASHES, Crashes, is_disk, where
from services.desk import Desk, Reception
from services.errors import InvalidArtifact, PolicyRefusal, SilokitError, StateError, TrustError
from services.files import copy_to_disk, private_folder, remove_tree, sync_folder
from services.home import RUNS
from services.inbox import Inbox, received
from services.metrics import TRAINED
from services.purse import Reserve
from services.runs import Run, RunBook, RunKeys
from services.state import LIVE, State

__all__ = ["Desk", "Host", "Stopped"]

_PROGRESS_EVERY = 0.5  # seconds between two records of progress
_DISK_WAIT = 5.0  # seconds
_TRUST_WAIT = 1.0
_log = structlog.get_logger()


class Stopped(Exception):
    """Raised through a computation whose run was ended or whose host is stopping."""


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
        reserve: asks the ledger before work that spends.
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
        reserve: Reserve,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._state = state
        self._courier = courier
        self._keys = keys
        self._load = load
        self._context = context
        self._outputs = outputs
        self._reserve = reserve
        self._runs = private_folder(state.folder / RUNS)
        self._clock = clock
        self._book = RunBook(state)
        self._inbox = Inbox(state, clock)
        self._crashes = Crashes(self._book, self._inbox)
        self._reception = Reception(self._inbox, self._book, clock)
        self._active: dict[str, _Active] = {}
        self._interrupted: set[str] = set()
        self._stopping = threading.Event()
        self._spoke: float | None = None  # when the step under way began or reported

    def stop(self) -> None:
        """Ask work under way to unwind at its next report of progress."""
        self._stopping.set()

    def interrupt(self, run: str) -> None:
        """Ask the work of one run to unwind: its end has been heard or said."""
        self._interrupted.add(run)

    def heed_endings(self) -> int:
        """Interrupt the runs whose end lies in the inbox, for as long as it lies there; returns how many there are."""
        heeded = 0
        for row in self._inbox.endings():
            run = self._book.find(row["run"])
            if run is not None and run.may_end(row["sender"], row["kind"], me=self._courier.me):
                self.interrupt(run.run)
                heeded += 1
        return heeded

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is done within may take long, and is no standstill."""
        self._spoke = time.monotonic()
        try:
            yield
        finally:
            self._spoke = None

    @property
    def quiet(self) -> float | None:
        """For how many seconds the step under way has not reported; None while nothing is computed."""
        return None if self._spoke is None else time.monotonic() - self._spoke

    def work_once(self, desk: Desk) -> bool:
        """Do the next thing there is to do; returns False when there was nothing."""
        self._clean()
        desk.tick()
        return self._reception.attend(desk) or self._do_runs()

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
            row = self._inbox.for_half(run.run)
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
            self._crashes.outside()
            self._crashed(run, None, error)
            return
        active = self._active[run.run] = _Active(half, 0)
        if not self._drive(run, None, lambda half: half.begin()):
            return
        for row in self._inbox.handed(run.run):
            active.cursor = row["handed"]
            if not self._drive(run, row, lambda half, row=row: half.receive(received(row))):  # type: ignore[misc]
                return

    def _hand(self, run: Run, row: Any) -> None:
        active = self._active[run.run]
        order = row["handed"] or active.cursor + 1
        self._inbox.hand(row, order)
        active.cursor = max(order, active.cursor)
        if self._drive(run, row, lambda half: half.receive(received(row))):
            self._inbox.mark(row, "done")

    def _drive(self, run: Run, row: Any, event: Callable[[Half], Iterator[Step]]) -> bool:
        """Run one event's steps; returns whether all of them were done and the run goes on."""
        if self._crashes.attempt(run.run, row) > MAX_CRASHES:
            self._end(run, Failed(f"the process died {MAX_CRASHES} times at the same place"))
            return False
        try:
            end = self._steps(run, row, event(self._active[run.run].half))
        except (Stopped, RunOver, TrustError) as why:
            self._pause(run, row, why)
        except StateError:
            self._crashes.works(run.run, row)  # it says nothing of the run: the party ends
            raise
        except InvalidArtifact as error:
            if row is None:
                self._end(run, Failed(error.what))
            else:
                self._inbox.refuse(row, error)
        except SilokitError as error:
            self._end(run, Failed(error.what))
        except Exception as error:  # noqa: BLE001 - whatever a protocol does wrong ends its run, not the party
            self._crashed(run, row, error)
        else:
            self._crashes.works(run.run, row)
            if end is None:
                return True
            self._end(run, end)
        return False

    def _pause(self, run: Run, row: Any, why: Exception) -> None:
        """Leave a run where it stands: its end was said, the host stops, or trust must be fresh first."""
        self._crashes.works(run.run, row)
        if self._clock() > run.deadline:
            self._expire(run)
        elif isinstance(why, TrustError):
            _log.warning("run waits", run=run.run, reason=why.what)
            self._stopping.wait(_TRUST_WAIT)
        self._active.pop(run.run, None)

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
        # who cannot be told is found out before anything is computed or spent
        recipients = self._courier.everybody() if work.publish else run.keys(work.to)
        if work.spends is not None:
            self._reserve(run.run, work.key, work.spends)
        _log.info("work", run=run.run, step=work.key)
        started = time.monotonic()
        with self.computing():
            message = work.compute(self._progress(run, row, work.key))
        seconds = time.monotonic() - started
        self._crashes.works(run.run, row)
        if message is None:
            self._state.finish(run.run, work.key, self._clock(), seconds)
            return
        _check_release(work, message)
        send = self._courier.publish if work.publish else partial(self._courier.send, expires=run.deadline)
        send(run.run, work.key, message, recipients, seconds=seconds, schema_hash=run.spec_hash)

    def _progress(self, run: Run, row: Any, step_name: str) -> ProgressCallback:
        last = 0.0
        done: dict[str, int] = {}

        def report(phase: str, step: int, total: int, loss: float | None) -> None:
            nonlocal last
            if self._stopping.is_set() or run.run in self._interrupted or self._clock() > run.deadline:
                raise Stopped
            self._crashes.works(run.run, row)
            now = self._spoke = time.monotonic()
            # what a checkpoint brings is no progress of this process
            TRAINED.labels(run.protocol, phase).inc(max(0, step - done.get(phase, step)))
            done[phase] = step
            if now - last < _PROGRESS_EVERY and step < total:
                return
            last = now
            progress = {"step": step_name, "phase": phase, "done": step, "total": total, "loss": loss}
            self._book.note_progress(run.run, progress)
            _log.info("progress", run=run.run, **progress)

        return report

    def _crashed(self, run: Run, row: Any, error: Exception) -> None:
        self._active.pop(run.run, None)
        if is_disk(error):
            # nothing is wrong with the half: wait for space
            self._crashes.works(run.run, row)
            _log.error("the disk does not take more: the run waits", run=run.run, error=str(error))
            self._stopping.wait(_DISK_WAIT)
            return
        times = self._crashes.crashed(run.run, row)
        _log.error("the half crashed", run=run.run, times=times, **where(error))
        if times >= MAX_CRASHES:
            self._end(run, Failed(f"the protocol crashed {times} times ({type(error).__name__})"))

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
            copy_to_disk(path, temporary)
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


def _check_release(work: Work, message: Message) -> None:
    """Refuse a message that says of its privacy anything else than its work said beforehand, or speaks for the kit."""
    said = message.release if isinstance(message.release, Spend) else None
    ours = message.kind.startswith((CONTROL, "product.")) or (message.kind.startswith("pool.") and said is None)
    if said != work.spends or ours:
        raise PolicyRefusal(
            f"what {work.key!r} did for its privacy is not what it was to do",
            fix="this is a fault of the program: report it",
            kept="nothing was sealed; what was reserved counts as spent",
        )
