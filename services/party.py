"""The life of a running party: one thread hears notices, one is on the wire, one at work, over one state file.

A notice is written down at once, however long those before it take to be judged. The wire's thread never computes and
the worker's never waits for a server, so training neither starves the connection nor is starved by it. Whatever fails
for a while is tried again with growing pauses and said once.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from services.bus import BusError
from services.courier import Courier
from services.errors import SilokitError, StateError, StoreError, TrustError
from services.health import Vitals
from services.host import Desk, Host
from services.purse import Purse
from services.state import State
from services.store.probe import StoreRefused
from services.trust import Trust

IDLE = 0.1  # seconds between two looks for work
LISTEN = 0.03  # seconds between two looks at the bus
RECONCILE_EVERY = 15.0  # seconds between two listings of the store
CLOCK_EVERY = 300.0  # seconds between two looks at the store's clock
_TRANSIENT = (StoreError, BusError, TrustError)
_log = structlog.get_logger()


class Pace:
    """When to try again: at once after success, ever more slowly after failures, up to `longest` seconds."""

    def __init__(self, longest: float = 15.0) -> None:
        self._longest = longest
        self._wait = 0.0
        self._next = 0.0

    def due(self) -> bool:
        """Whether the time of the next attempt has come."""
        return time.monotonic() >= self._next

    def failed(self) -> None:
        """Wait longer before the next attempt, with jitter so that parties do not knock together."""
        self._wait = min(self._longest, max(0.2, self._wait * 2))
        self._next = time.monotonic() + self._wait * (0.5 + secrets.randbelow(512) / 1024)

    def worked(self) -> None:
        """Try again at once next time."""
        self._wait = self._next = 0.0


class Party:
    """A coordinator or a silo, running.

    Args:
        state: its state.
        courier: its door.
        trust: what it believes about the others.
        host: what runs its halves.
        desk: the program's side of a run's life.
        meet_store: finds out, before anything is sent, whether the store can be trusted with the federation.
        skew: asks the store by how much its clock is ahead; None when it does not tell.
        purse: what the host spends from.

    Attributes:
        vitals: what the threads note of themselves.
    """

    def __init__(
        self,
        *,
        state: State,
        courier: Courier,
        trust: Trust,
        host: Host,
        desk: Desk,
        meet_store: Callable[[], None],
        skew: Callable[[], timedelta | None],
        purse: Purse,
    ) -> None:
        self.state = state
        self.courier = courier
        self.trust = trust
        self.host = host
        self.desk = desk
        self.vitals = Vitals()
        self._meet_store = meet_store
        self._skew = skew
        self._purse = purse
        self._stop = threading.Event()
        self._listed = self._compared = 0.0
        self._paces: dict[str, Pace] = {}
        self._broken: BaseException | None = None  # what ended the thread that hears, or the wire's
        self._ready = False
        self._busy = 0.0  # when there was something to do, on the monotonic clock

    def stop(self) -> None:
        """Ask all threads to end; training unwinds at its next report of progress."""
        self._stop.set()
        self.host.stop()

    def run(self, *, until_idle: float | None = None) -> None:
        """Serve until `stop`; the calling thread does the work.

        Args:
            until_idle: end by itself, too, when nothing has been to do for so many seconds: nothing heard, sent or
                worked on, nothing that waits to leave or to be judged. Counts once the party is ready, for who has
                heard nobody cannot know.

        Raises:
            StateError: store or roster know more of this party than its state does, at start or later.
            StoreRefused: the store lacks what the configuration does not do without.
        """
        self._purse.close()
        wire = threading.Thread(target=self._fatally, args=(self._wire,), name="wire")
        wire.start()
        try:
            while not self._stop.is_set():
                if self._try("work", lambda: self.host.work_once(self.desk)):
                    self._busy = time.monotonic()
                elif until_idle is not None and self._is_idle(until_idle):
                    _log.info("nothing to do", seconds=until_idle)
                    break
                else:
                    self._stop.wait(IDLE)
        finally:
            self._stop.set()
            wire.join()
        if self._broken is not None:
            raise self._broken

    def exchange(self) -> bool:
        """One round of hearing and trading, for whoever has one thread; returns whether anything moved."""
        return self.hear() | self.trade()

    def hear(self) -> bool:
        """Write down what the bus has delivered; returns whether it was anything."""
        return self._busied(self._try("hear", self.courier.hear))

    def trade(self) -> bool:
        """One round on the wire: send, list when it is time, accept; returns whether anything moved."""
        moved = self._try("deliver", self.courier.deliver)
        if time.monotonic() - self._listed >= RECONCILE_EVERY and self._try("list", self.look_again):
            self._listed = time.monotonic()
        moved += self._try("accept", self.courier.accept)
        if time.monotonic() - self._compared >= CLOCK_EVERY and self._try("clock", self._compare_clocks):
            self._compared = time.monotonic()
        self._try("heed", self.host.heed_endings)
        return self._busied(moved)

    def look_again(self) -> bool:
        """Look for a new roster, for artifacts whose notices were lost, and for another agent of this party.

        Raises:
            StoreError: the store does not answer.
            StateError: this party went on elsewhere.
        """
        self.trust.refresh()
        self.courier.reconcile()
        self.courier.check_own_past()  # last: an object of ours that cannot be read holds nothing else up
        return True

    def _compare_clocks(self) -> bool:
        self.vitals.skew = self._skew()
        return True

    def _look_back(self) -> bool:
        self._meet_store()
        self.trust.refresh()
        self.courier.look_back()
        self._purse.open()
        return self.look_again()

    def _busied(self, moved: int) -> bool:
        if moved:
            self._busy = time.monotonic()
        return bool(moved)

    def _is_idle(self, seconds: float) -> bool:
        if not self._ready or time.monotonic() - self._busy < seconds:
            return False
        left = "SELECT 1 FROM outbox WHERE sent IS NULL UNION ALL SELECT 1 FROM arrivals WHERE outcome IS NULL LIMIT 1"
        return self.state.row(left) is None

    def _fatally(self, life: Callable[[], None]) -> None:
        """Live a thread's life; a party that hears nothing any more must not look alive."""
        try:
            life()
        except BaseException as error:  # noqa: BLE001 - whatever it is, `run` raises it
            self._broken = error
            self._purse.close()
            self.stop()

    def _wire(self) -> None:
        # nothing leaves or is spent until it is known that this state is no old copy; other work goes on meanwhile
        while not self._stop.is_set() and not self._try("look back", self._look_back):
            self._stop.wait(IDLE)
        ear = threading.Thread(target=self._fatally, args=(self._listen,), name="ear")
        ear.start()
        try:
            while not self._stop.is_set():
                self._say_ready()
                if not self.trade():
                    self._stop.wait(IDLE)
        finally:
            self._stop.set()
            ear.join()

    def _listen(self) -> None:
        while not self._stop.is_set():
            if not self.hear():
                self._stop.wait(LISTEN)

    def _say_ready(self) -> None:
        if self._ready:
            return
        with suppress(TrustError):
            _log.info("ready", me=self.courier.me, coordinator=self.trust.coordinator)
            self._busy = time.monotonic()
            self._ready = True

    def _try(self, name: str, task: Callable[[], int]) -> int:
        """Run one task unless it failed a moment ago; nothing that fails for a while ends the party."""
        pace = self._paces.setdefault(name, Pace())
        if not pace.due():
            return 0
        self.vitals.began(name)
        try:
            done = task()
        except (StateError, StoreRefused):
            raise
        except _TRANSIENT as error:
            _log.warning("waits", task=name, reason=error.what)
            self.vitals.failed(name, error)
        except SilokitError as error:
            _log.error("failed", task=name, reason=error.what)
            self.vitals.failed(name, error)
        except (OSError, sqlite3.OperationalError) as error:
            _log.error("waits", task=name, reason=f"{type(error).__name__}: {error}")
            self.vitals.failed(name, error)
        else:
            pace.worked()
            self.vitals.worked(name, answered=bool(done) or name == "hear")
            return int(done)
        pace.failed()
        return 0
