"""Whether a party lives, and whether it is ready: told from what it noted itself, without asking anybody.

Rules:
- It lives as long as its loop turns. Store and broker do not matter to that, and neither does a long computation: a
  restart would heal none of them. Whoever waits for a step that reports nothing any more is warned by an alert.
- It is ready when it could do its part now: it is enrolled with the keys it holds, its trust is fresh, store and broker
  have answered it *as itself* a moment ago, and the disk takes more. A connection that stands is no answer.
- Every "no" has its reason in plain words.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.bus import BusError, EventBus
from services.errors import SilokitError, StoreError, TrustError
from services.keyring import KeyRing
from services.metrics import FAILURES, PARTS
from services.trust import Trust

STALLED = 300.0
"""Seconds in one turn of the loop, computation apart, after which a party counts as dead."""
UNHEARD = 60.0
"""Seconds without an answer after which a server counts as away; a party asks at least every fifteen."""
LEAST_DISK = 256 << 20
"""Bytes below which a disk counts as full: the state file and a body or two still fit."""
TRANSFERS = ("deliver", "accept")
ASK_STORE = ("look back", "list", *TRANSFERS)
ASK_BROKER = ("hear",)
"""The tasks of a party that ask the servers."""


@dataclass(frozen=True)
class _Trouble:
    part: str
    reason: str


class Vitals:
    """What a running party notes of its tasks; written by its threads, read by whoever asks how it is."""

    def __init__(self) -> None:
        self._under_way: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._troubles: dict[str, _Trouble] = {}
        self.skew: timedelta | None = None
        """How far the store's clock is ahead of this machine's; None while nobody knows."""

    def began(self, task: str) -> None:
        """A task begins."""
        self._under_way[task] = time.monotonic()

    def worked(self, task: str, *, answered: bool = True) -> None:
        """It ended well; `answered` where a server was asked and did."""
        self._under_way.pop(task, None)
        self._troubles.pop(task, None)
        if answered:
            self._answered[task] = time.monotonic()

    def failed(self, task: str, error: Exception) -> None:
        """It failed and is to be tried again."""
        self._under_way.pop(task, None)
        part = _part(error)
        if part is not None:
            self._troubles[task] = _Trouble(part, error.what if isinstance(error, SilokitError) else str(error))
            FAILURES.labels(part).inc()

    def under_way(self, *tasks: str) -> float | None:
        """For how many seconds one of these tasks has been under way; None when none is."""
        began = [self._under_way[task] for task in tasks if task in self._under_way]
        return time.monotonic() - min(began) if began else None

    def since(self, *tasks: str) -> float | None:
        """How many seconds ago one of these tasks was last answered; None when none ever was."""
        answered = [self._answered[task] for task in tasks if task in self._answered]
        return time.monotonic() - max(answered) if answered else None

    def trouble(self, part: str) -> str:
        """What keeps the party from that part; nothing when there is nothing."""
        return next((one.reason for one in list(self._troubles.values()) if one.part == part), "")


def _part(error: Exception) -> str | None:
    if isinstance(error, StoreError):
        return "store"
    if isinstance(error, BusError):
        return "broker"
    if isinstance(error, TrustError):
        return "trust"
    return None if isinstance(error, SilokitError) else "disk"


@dataclass(frozen=True)
class Health:
    """A party's health.

    Args:
        home: its private folder.
        ring: its keys.
        trust: what it believes.
        bus: its bus.
        vitals: what it notes.
    """

    home: Path
    ring: KeyRing
    trust: Trust
    bus: EventBus
    vitals: Vitals

    def dead(self, *, computing: bool) -> str:
        """Why the party should be started again; nothing while it lives."""
        turning = self.vitals.under_way("work")
        if turning is None or turning < STALLED or computing:
            return ""
        return f"the loop has not turned for {turning:.0f} seconds"

    def lacks(self) -> Mapping[str, str]:
        """Every part that is not as it should be, with the reason."""
        found = {
            "enrolment": self._enrolment(),
            "trust": self._trust(),
            "store": self._store(),
            "broker": self._broker(),
            "disk": self._disk(),
        }
        return {part: found[part] for part in PARTS if found[part]}

    def _enrolment(self) -> str:
        try:
            known = self.trust.roster.members.get(self.ring.name)
        except TrustError:
            return ""  # nobody knows: the trust says so
        if known is None:
            return f"{self.ring.name} is no member of the federation: the consortium must admit it"
        if known != self.ring.public:
            return f"the roster names other keys for {self.ring.name} than it holds: restore them, or enrol again"
        return ""

    def _trust(self) -> str:
        try:
            _ = self.trust.roster
        except TrustError as error:
            return error.what
        return self.vitals.trouble("trust")

    def _store(self) -> str:
        if trouble := self.vitals.trouble("store"):
            return trouble
        heard = self.vitals.since(*ASK_STORE)
        if heard is None:
            return "the store has not answered yet"
        # a transfer has limits of its own, and may take longer than an answer
        if heard > UNHEARD and self.vitals.under_way(*TRANSFERS) is None:
            return f"the store has not answered for {heard:.0f} seconds"
        return ""

    def _broker(self) -> str:
        try:
            self.bus.wait_ready(0)
        except BusError as error:
            return error.what
        return self.vitals.trouble("broker")

    def _disk(self) -> str:
        if trouble := self.vitals.trouble("disk"):
            return trouble
        free = shutil.disk_usage(self.home).free
        return f"{self.home} has {free >> 20} MiB left; it needs {LEAST_DISK >> 20}" if free < LEAST_DISK else ""
