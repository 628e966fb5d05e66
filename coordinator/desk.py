"""The coordinator's side of a run's life: offer it, wait for every silo, begin it, and tell everybody how it ended."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog

import protocols
from services.contract import Received
from services.desk import survive
from services.errors import ConfigError, InvalidArtifact, SilokitError
from services.log import Troubles
from services.runs import (
    BEGIN,
    CANCEL,
    DECLINE,
    DONE,
    FAILED,
    JOIN,
    LAST_WORDS,
    LONGEST,
    OFFER,
    Ending,
    Offer,
    Run,
    UnknownRun,
    hear,
    say,
)  # fmt: skip
from services.state import LIVE
from services.trust import CATALOG, departed, sealing_keys
from services.wiring import Assembly

_log = structlog.get_logger()


class CoordinatorDesk:
    """See `services.host.Desk`.

    Args:
        parts: the coordinator's parts.
        adopt: takes a silo's signed catalog of published generators, as `Repository.adopt`.

    Attributes:
        early: see `services.host.Desk`; every run begins here, so that none is offered later.
    """

    early = timedelta()

    def __init__(self, parts: Assembly, adopt: Callable[[str, bytes], None]) -> None:
        self._parts = parts
        self._adopt = adopt
        self._book = parts.book
        self._me = parts.ring.name
        self._troubles = Troubles()

    # what the consortium's people say

    def submit(self, value: Mapping[str, Any]) -> str:
        """Write down a run to be offered to its silos; returns its identifier.

        Raises:
            ConfigError: the specification cannot be run.
            TrustError: a silo is no member, or the roster has expired.
        """
        spec = protocols.check_spec(value, "the run specification")
        if self._me in spec.silos:
            raise ConfigError(
                f"{self._me} is the coordinator and cannot be one of the silos", fix="take it out of `silos`"
            )
        if not timedelta() < spec.deadline <= LONGEST:
            raise ConfigError("the run's deadline must lie ahead, within a year", fix="give it as 2h or 3d")
        self._parts.trust.refresh()
        sealing_keys(self._parts.trust, tuple(spec.silos))
        now = self._parts.clock()
        run = f"{spec.name[:40]}-{now:%Y%m%d}-{secrets.token_hex(4)}"
        self._parts.keys.make(run)
        self._book.open(run, json.dumps(spec.model_dump(mode="json")), self._me, now, now + spec.deadline)
        return run

    def cancel(self, run: str) -> str:
        """End a run at every party.

        Raises:
            UnknownRun: there is no such run, or it has ended.
        """
        found = self._book.get(run)
        if not self._book.move(run, "cancelled", self._parts.clock(), "cancelled by the consortium"):
            raise UnknownRun(f"run {run} has ended already ({found.phase})")
        self._parts.host.interrupt(run)
        return f"{run} is cancelled"

    # what others say

    def control(self, run: str, artifact: Received) -> None:
        """See `services.host.Desk.control`."""
        known = self._book.find(run)
        if known is None or artifact.sender not in known.silos:
            raise InvalidArtifact(f"{artifact.sender} takes no part in this run")
        if artifact.kind == JOIN:
            self._book.welcome(known, artifact)
            _log.info("joined", run=run, silo=artifact.sender)
        elif artifact.kind == DONE:
            if not self._parts.state.finished(run, f"done.{artifact.sender}"):
                self._parts.state.finish(run, f"done.{artifact.sender}", self._parts.clock(), 0.0)
            _log.info("silo done", run=run, silo=artifact.sender)
        elif artifact.kind == CATALOG:
            self._adopt(artifact.sender, artifact.path.read_bytes())
        elif known.may_end(artifact.sender, artifact.kind, me=self._me):
            hear(artifact.path, Ending)
            verb = "declined the run" if artifact.kind == DECLINE else "could not go on"
            if self._book.move(run, "failed", self._parts.clock(), f"{artifact.sender} {verb}"):
                self._parts.host.interrupt(run)
                _log.warning("run failed", run=run, silo=artifact.sender, reason=verb)
        else:
            raise InvalidArtifact(f"{artifact.sender} may not say {artifact.kind} in this run")

    # what time brings

    def tick(self) -> None:
        """See `services.host.Desk.tick`."""
        self._parts.end_without_members()
        for run in self._book.unsettled():
            try:
                if run.phase in {"offered", "queued"}:
                    self._offer(run)
                    self._gather(run)
                elif run.phase not in LIVE:
                    self._tell_end(run)
            except SilokitError as error:
                self._troubles.say(run.run, error.what)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a run ends it, not the party
                survive(run, error, self._book, self._parts.clock())

    def _offer(self, run: Run) -> None:
        if self._parts.state.finished(run.run, "offer"):
            return
        key = self._parts.keys.make(run.run)
        self._book.admit(run.run, self._me, key.hex)
        self._parts.courier.send(
            *(run.run, "offer", say(OFFER, Offer(spec=run.text, deadline=run.deadline, run_key=key))),
            sealing_keys(self._parts.trust, run.silos), expires=run.deadline, schema_hash=run.spec_hash,
        )  # fmt: skip
        _log.info("run offered", run=run.run, protocol=run.protocol, silos=list(run.silos))

    def _gather(self, run: Run) -> None:
        busy = [other for other in self._book.live("running") if set(other.silos) & set(run.silos)]
        if self._parts.clock() > run.deadline:
            reason = (
                f"{', '.join(run.awaited())} had not joined" if run.awaited() else "another run took the silos' time"
            )
            self._book.move(run.run, "failed", self._parts.clock(), f"the deadline passed: {reason}")
        elif not run.awaited() and busy and run.phase != "queued":
            why = f"waits for run {busy[0].run} to end: one run at a time per silo"
            self._book.move(run.run, "queued", self._parts.clock(), why)
        elif not run.awaited() and not busy:
            self._parts.courier.send(
                *(run.run, "begin", say(BEGIN), sealing_keys(self._parts.trust, run.silos)),
                expires=run.deadline, schema_hash=run.spec_hash,
            )  # fmt: skip
            self._book.move(run.run, "running", self._parts.clock(), only=("offered", "queued"))
            _log.info("run begins", run=run.run)

    def _tell_end(self, run: Run) -> None:
        if run.phase == "done" or not self._parts.state.finished(run.run, "offer"):
            # each silo ends by its own half, or has never heard of the run
            self._parts.state.finish(run.run, "ending", self._parts.clock(), 0.0)
            return
        kind = CANCEL if run.phase == "cancelled" else FAILED
        gone = departed(self._parts.trust, run.silos)
        self._parts.courier.send(
            *(run.run, "ending", say(kind, Ending(reason=run.detail[:500]))),
            sealing_keys(self._parts.trust, tuple(silo for silo in run.silos if silo not in gone)),
            expires=run.deadline + LAST_WORDS, schema_hash=run.spec_hash,
        )  # fmt: skip
