"""A silo's side of a run's life: look at offers, ask policy, people and data, join, and say how it ended.

What a silo says outside about a refusal is one sentence whatever its reason: reasons can tell about private rows.
One run at a time: others wait until the coordinator says begin and this silo is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from pydantic import ValidationError

import protocols
from protocols.spec import parse_spec
from services.artifact import parse_json
from services.contract import Message, Received
from services.desk import survive
from services.errors import ConfigError, InvalidArtifact, PolicyRefusal, SilokitError
from services.keys import SealTo
from services.log import Troubles
from services.runs import (
    BEGIN,
    DECLINE,
    DONE,
    FAILED,
    JOIN,
    LAST_WORDS,
    LONGEST,
    OFFER,
    Ending,
    Join,
    Offer,
    Run,
    UnknownRun,
    hear,
    say,
)  # fmt: skip
from services.state import LIVE
from services.trust import sealing_keys
from services.wiring import Assembly
from silo_agent.policy import TABLE, Policy
from silo_agent.pool.shelf import Shelf
from silo_agent.product import keep_table

_REFUSED = "the silo cannot take part or go on; its operators know more"
_log = structlog.get_logger()


class SiloDesk:
    """See `services.host.Desk`.

    Args:
        parts: the silo's parts.
        policy: reads the policy as it stands now, so that a change needs no restart.
        check_data: raises DataError or ConfigError when this silo's table does not fit a run.
        check_budget: raises PolicyRefusal when the ledger does not allow what a run spends.
        outputs: where products of other silos are kept.

    Attributes:
        early: see `services.host.Desk`; all silos are sent an offer at once, so that a day is long.
        shelf: what this silo has in the federation's pool.
    """

    early = timedelta(days=1)

    def __init__(
        self,
        parts: Assembly,
        policy: Callable[[], Policy],
        *,
        check_data: Callable[[Run], object],
        check_budget: Callable[[Run], None],
        outputs: Path,
    ) -> None:
        self._parts = parts
        self._book = parts.book
        self._policy = policy
        self._check_data = check_data
        self._check_budget = check_budget
        self._outputs = outputs
        self._me = parts.ring.name
        self._troubles = Troubles()
        self.shelf = Shelf(parts)

    # what others say

    def control(self, run: str, artifact: Received) -> None:
        """See `services.host.Desk.control`."""
        if artifact.kind == OFFER:
            self._take_offer(run, artifact)
            return
        known = self._book.get(run)
        if artifact.kind == TABLE and artifact.sender in known.silos:
            keep_table(artifact, known, self._outputs / run)
        elif artifact.kind == JOIN and artifact.sender in known.silos:
            self._book.welcome(known, artifact)
        elif artifact.kind == BEGIN and artifact.sender == known.coordinator:
            self._note(run, "begin")
        elif known.may_end(artifact.sender, artifact.kind, me=self._me):
            phase = "failed" if artifact.kind == FAILED else "cancelled"
            reason = hear(artifact.path, Ending).reason
            if self._book.move(run, phase, self._parts.clock(), reason):  # type: ignore[arg-type]  # a Phase
                self._parts.host.interrupt(run)
                _log.info("run ended by the coordinator", run=run, phase=phase, reason=reason)
            self._note(run, "ending")
        else:
            raise InvalidArtifact(f"{artifact.sender} may not say {artifact.kind} in this run")

    def _take_offer(self, run: str, artifact: Received) -> None:
        if artifact.sender != self._parts.trust.coordinator:
            raise InvalidArtifact(f"{artifact.sender} is not the coordinator and cannot offer runs")
        offer = hear(artifact.path, Offer)
        try:
            spec = parse_spec(parse_json(offer.spec.encode()))
        except ValidationError as error:
            raise InvalidArtifact("the offered run specification is malformed") from error
        if self._me not in spec.silos:
            raise InvalidArtifact("the offered run is not for this silo")
        if artifact.sender in spec.silos:
            # what silos keep from the coordinator, as an alignment's secret, it would be sent as one of them
            raise InvalidArtifact("the coordinator offers a run in which it is a silo itself")
        if abs(offer.deadline - self._parts.clock()) > LONGEST:
            raise InvalidArtifact("the offered run's deadline lies more than a year away")
        self._book.open(run, offer.spec, artifact.sender, self._parts.clock(), offer.deadline)
        self._book.admit(run, artifact.sender, offer.run_key.hex)
        _log.info("run offered", run=run, protocol=spec.protocol, silos=list(spec.silos))

    # what time brings

    def tick(self) -> None:
        """See `services.host.Desk.tick`."""
        self._parts.end_without_members()
        self.shelf.tick()
        for run in self._book.unsettled():
            try:
                if run.phase == "offered":
                    self._consider(run)
                elif run.phase in {"joined", "queued"}:
                    self._start(run)
                elif run.phase not in LIVE:
                    self._tell_end(run)
            except SilokitError as error:
                self._troubles.say(run.run, error.what)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a run ends it, not the party
                survive(run, error, self._book, self._parts.clock())

    def _consider(self, run: Run) -> None:
        if self._expired(run):
            return
        try:
            policy = self._policy()
        except ConfigError as error:  # somebody is at work on it: no reason to decline for good
            self._wait(run, "offered", f"waits for a policy that can be read: {error.what}")
            return
        try:
            spec = protocols.check_spec(run.spec, "the offered run specification")  # its coordinator may not have
            policy.check_run(run.protocol, protocols.unprotected(spec))
            policy.check_table(spec.columns_of(self._me), spec.identifier)
            self._check_budget(run)
        except (PolicyRefusal, ConfigError) as error:
            self._refuse(run, error)
            return
        if policy.approval == "manual" and not self._parts.state.fact(f"approved:{run.run}"):
            self._wait(run, "offered", f"waits for `silo-agent approve {run.run}`")
            return
        # who cannot be told now is found out before a long look at the table, not after each
        others = sealing_keys(self._parts.trust, (run.coordinator, *(silo for silo in run.silos if silo != self._me)))
        try:
            with self._parts.host.computing():
                self._check_data(run)
        except SilokitError as error:
            self._refuse(run, error)
            return
        self._join(run, others)

    def _wait(self, run: Run, phase: str, why: str) -> None:
        if (run.phase, run.detail) != (phase, why):
            self._book.move(run.run, phase, self._parts.clock(), why)  # type: ignore[arg-type]  # a Phase
            _log.info("run waits", run=run.run, reason=why)

    def _join(self, run: Run, others: Mapping[str, SealTo]) -> None:
        key = self._parts.keys.make(run.run)
        self._parts.courier.send(
            *(run.run, "join", say(JOIN, Join(run_key=key, spec=run.spec_hash)), others),
            expires=run.deadline, schema_hash=run.spec_hash,
        )  # fmt: skip
        self._book.admit(run.run, self._me, key.hex)
        self._book.move(run.run, "joined", self._parts.clock())
        _log.info("joined", run=run.run)

    def _start(self, run: Run) -> None:
        if self._expired(run) or run.awaited() or not self._parts.state.finished(run.run, "begin"):
            return
        if busy := self._book.live("running"):
            self._wait(run, "queued", f"waits for run {busy[0].run} to end: one run at a time")
            return
        self._book.move(run.run, "running", self._parts.clock(), only=("joined", "queued"))
        _log.info("run begins", run=run.run)

    def _expired(self, run: Run) -> bool:
        if self._parts.clock() <= run.deadline:
            return False
        awaited = f": {', '.join(run.awaited())} had not joined" if run.phase == "joined" else ""
        self._book.move(run.run, "failed", self._parts.clock(), f"the run's deadline passed{awaited}")
        return True

    def _refuse(self, run: Run, error: SilokitError) -> None:
        _log.warning("run declined", run=run.run, detail=error.what)
        self._book.move(run.run, "declined", self._parts.clock(), str(error))

    def _tell_end(self, run: Run) -> None:
        if run.phase == "cancelled":
            self._note(run.run, "ending")
            return
        kind = {"done": DONE, "failed": FAILED, "declined": DECLINE}[run.phase]
        self._parts.courier.send(
            *(run.run, "ending", say(kind, None if kind == DONE else Ending(reason=_REFUSED))),
            sealing_keys(self._parts.trust, (run.coordinator,)),
            expires=run.deadline + LAST_WORDS, schema_hash=run.spec_hash,
        )  # fmt: skip

    def _note(self, run: str, step: str) -> None:
        if not self._parts.state.finished(run, step):
            self._parts.state.finish(run, step, self._parts.clock(), 0.0)

    # what the silo's people say

    def approve(self, run: str, by: str) -> str:
        """Let a run begin that waits for a person.

        Args:
            run: the run.
            by: who says so, for the audit log and the ledger.

        Raises:
            UnknownRun: no such run waits.
        """
        found = self._waiting(run)
        with self._parts.state.transaction():
            self._parts.state.remember(f"approved:{found.run}", by)
            self._parts.audit.append("run approved", self._parts.clock(), run=run, by=by)
        return f"{run} is approved"

    def decline(self, run: str) -> str:
        """Refuse a run, or leave one that has not ended.

        Raises:
            UnknownRun: there is no such run.
        """
        found = self._book.get(run)
        if not self._book.move(run, "declined", self._parts.clock(), "declined by this silo's operators"):
            raise UnknownRun(f"run {run} has ended already ({found.phase})")
        self._parts.host.interrupt(run)
        return f"{run} is declined"

    def release(self, run: str, message: Message, to: tuple[str, ...]) -> str:
        """Send this silo's synthetic columns, once, to recipients that its policy names; returns what was done.

        Raises:
            PolicyRefusal: the policy names one of them not.
            UnknownRun: the run is unknown or not done.
        """
        found = self._book.get(run)
        if found.phase != "done":
            raise UnknownRun(f"run {run} is {found.phase}: there is nothing to release")
        if strangers := sorted(set(to) - set(found.silos)):
            raise PolicyRefusal(f"{', '.join(strangers)} took no part in run {run}")
        before = [recipient for recipient in to if self._parts.state.finished(run, f"release.{recipient}")]
        for recipient in to:
            self._parts.courier.send(
                *(run, f"release.{recipient}", message, sealing_keys(self._parts.trust, (recipient,))),
                expires=self._parts.clock() + timedelta(days=30), schema_hash=found.spec_hash,
            )  # fmt: skip
        lines = []
        if now := [recipient for recipient in to if recipient not in before]:
            lines.append(f"released to {', '.join(now)}")
        if before:
            lines.append(f"released to {', '.join(before)} before: nothing was sent now")
        return "\n".join(lines)

    def _waiting(self, run: str) -> Run:
        found = self._book.get(run)
        if found.phase != "offered":
            raise UnknownRun(f"run {run} is {found.phase}: it does not wait for approval")
        return found
