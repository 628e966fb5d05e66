"""A federation of which one party is a process of its own, to be killed for true, while the others live on.

Store, bus and state files are the real ones, on a disk. Everybody takes turns: the victim works when it is asked to and
says whether it did anything; when it dies instead, a new process takes its place, with nothing but what lies on the
disk. Processes are forked from one that has imported everything, so that a life costs milliseconds.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from services.bus.sqlite import SqliteBus
from services.party import Party
from tests.faults.boundaries import Boundaries, Point
from tests.world import HUB, World

ROUNDS = 400  # a clean run takes some fifty


@dataclass
class Buses:
    """Everybody's way to the one bus."""

    path: Path

    def of(self, me: str) -> SqliteBus:
        return SqliteBus(self.path, me)


@dataclass
class Divided(World):
    """The federation; `victim` is the party that lives apart, `specification` the one run that there is."""

    victim: str = HUB
    specification: dict[str, Any] = field(default_factory=dict)
    killed: bool = False
    _apart: bool = False
    _process: int = 0
    _pipes: tuple[int, int] = field(default=(-1, -1))

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def start(self, name: str) -> None:
        if name != self.victim or self._apart:
            super().start(name)

    # the victim's process

    def spawn(self, prepare: Callable[[], None] = lambda: None) -> None:
        """Let the victim begin a life of its own, after what `prepare` does to its process."""
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        self._process = os.fork()
        if self._process:
            os.close(asked)
            os.close(answer)
            self._pipes = (ask, answered)
            return
        status = 1
        try:
            os.close(ask)
            os.close(answered)
            prepare()
            self._live(asked, answer)
            status = 0
        except BaseException:  # noqa: BLE001 - it must not run on as a second copy of the test
            (self.folder / f"{self.victim}.crash").write_text(traceback.format_exc())
        finally:
            os._exit(status)

    def _live(self, asked: int, answer: int) -> None:
        self._apart = True
        log = (self.folder / f"{self.victim}.log").open("a", encoding="utf-8")
        structlog.configure(
            processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()],
            logger_factory=structlog.WriteLoggerFactory(log),
        )
        self.start(self.victim)
        self.parts[self.victim].courier.check_own_past()
        party = self.parties[self.victim]
        while what := os.read(asked, 1):
            if what == b"l":
                party.look_again()
            os.write(answer, b"1" if self._round(party) else b"0")

    def _round(self, party: Party) -> bool:
        if self.victim == HUB and not self.hub._parts.book.all():
            self.hub.submit(self.specification)
            return True
        return party.exchange() | party.host.work_once(self.desks[self.victim])

    def ask(self, what: bytes) -> bool:
        """Let the victim do a round; returns whether it did anything, its dying and coming back included."""
        try:
            os.write(self._pipes[0], what)
            answer = os.read(self._pipes[1], 1)
        except BrokenPipeError:
            answer = b""
        if answer:
            return answer == b"1"
        self._mourn()
        self.spawn()
        return True

    def _mourn(self) -> None:
        for pipe in self._pipes:
            os.close(pipe)
        _, status = os.waitpid(self._process, 0)
        self._process = 0
        crash = self.folder / f"{self.victim}.crash"
        assert os.WIFSIGNALED(status), crash.read_text() if crash.exists() else f"status {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert not self.killed, "it died twice"
        self.killed = True

    # life

    def run_to_rest(self) -> None:
        """Let everybody work until nothing moves, with lost notices found by listing.

        Raises:
            AssertionError: it does not come to rest.
        """
        quiet = 0
        for _ in range(ROUNDS):
            quiet = 0 if self.ask(b"w") | self.turn() else quiet + 1
            if quiet == 2:
                for party in self.parties.values():
                    party.look_again()
                quiet += not (self.ask(b"l") | self.turn())
            if quiet > 3:
                return
        raise AssertionError("the federation does not come to rest")

    def end(self) -> None:
        """End the victim's process and close everybody's state."""
        if self._process:
            for pipe in self._pipes:
                os.close(pipe)
            os.waitpid(self._process, 0)
            self._process = 0
        self.close()


def live_through(world: Divided, fatal: Point | None = None, record: Path | None = None) -> bool:
    """A whole run in which the victim dies once, at `fatal`; returns whether it did."""
    if world.victim != HUB:
        world.hub.submit(world.specification)
    world.spawn(Boundaries(fatal, record).install)
    try:
        world.run_to_rest()
    finally:
        world.end()
    return world.killed
