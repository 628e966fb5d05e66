"""The ledger itself: judges charges, writes them down, and holds what leaves against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.chain import Chain
from services.errors import BudgetRefusal
from services.ledger.account import Account, account, divergence, together
from services.ledger.budget import Budget, Charge
from services.ledger.entry import LEDGER, Entry, charge_of, entries, facts, same, text_of
from services.ledger.proof import verify
from services.mechanism import Mechanism
from services.state import State, now_text

_KEPT = "the budget: nothing was reserved and nothing leaves"


class Ledger:
    """The ledger of one silo.

    Args:
        state: the silo's state.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._chain = Chain(state, LEDGER)

    @property
    def head(self) -> str:
        """What the whole ledger comes down to, for the next manifest to carry."""
        return self._chain.head

    def check(self, run: str, charge: Charge, budget: Budget | None) -> None:
        """Judge a charge on top of everything that was reserved; changes nothing.

        Args:
            run: the run that it would be a part of.
            charge: what is to be paid.
            budget: what the policy grants the data set; None when it is not registered.

        Raises:
            BudgetRefusal: the policy does not grant it.
        """
        with self._state.transaction():  # for writing, so that nobody spends between the looks
            self._check(run, charge, budget)

    def reserve(
        self, run: str, step: str, charge: Charge, budget: Budget | None, *, at: datetime, approver: str
    ) -> None:
        """Pay for a release before it is computed; the same charge for the same step again does nothing.

        Args:
            run: the run's identifier.
            step: the step's name.
            charge: what is to be paid.
            budget: what the policy grants the data set now; None when it is not registered.
            at: the present.
            approver: who agreed to the run.

        Raises:
            BudgetRefusal: the policy does not grant it, or the step has paid something else.
        """
        with self._state.transaction():
            if (paid := self._paid(run, step)) is not None:
                if charge_of(paid) != charge:
                    raise BudgetRefusal(
                        f"step {step} of run {run} has reserved another mechanism, data set or δ",
                        fix="this is a fault of the protocol: report it",
                        kept="the reservation as it was; nothing leaves",
                    )
                return
            self._check(run, charge, budget)
            text = text_of(charge.mechanism)
            self._state.write(
                "INSERT INTO charges VALUES (?,?,?,?,?,?,?,NULL)",
                *(run, step, charge.dataset, text, charge.delta, approver, now_text(at)),
            )
            self._state.write(
                "INSERT INTO spent VALUES (?,?,1) ON CONFLICT DO UPDATE SET times = times + 1", charge.dataset, text
            )
            self._chain.append("reserved", at, **facts(run, step, charge), approver=approver)

    def has_paid(self, run: str, step: str) -> bool:
        """Whether a step has reserved its charge."""
        return self._paid(run, step) is not None

    def commit(  # noqa: PLR0917 - a release's own words, in the order of its manifest
        self, run: str, step: str, mechanism: Mapping[str, Any] | Mechanism, delta: float, digest: str, at: datetime
    ) -> None:
        """Note that a reserved release was sealed, in the transaction that puts it into the outbox.

        Args:
            run: the run's identifier.
            step: the step's name.
            mechanism: what was executed.
            delta: the δ that the release states.
            digest: the release's, that is its manifest's.
            at: the present.

        Raises:
            BudgetRefusal: what was executed is not what was reserved, or it was sealed before as something else.
        """
        with self._state.transaction():
            paid = self._paid(run, step)
            if paid is None or not same(mechanism, delta, charge_of(paid)):
                raise BudgetRefusal(
                    f"what step {step} of run {run} executed is not what was reserved for it",
                    fix="this is a fault of the protocol: report it",
                    kept="what was reserved counts as spent; nothing leaves",
                )
            if paid["digest"] not in {None, digest}:
                raise BudgetRefusal(
                    f"step {step} of run {run} has paid for another release",
                    fix="this is a fault of the program: report it",
                    kept="the release that was paid for; nothing else leaves",
                )
            if paid["digest"] is None:
                self._state.write("UPDATE charges SET digest=? WHERE run=? AND step=?", digest, run, step)
                self._chain.append("committed", at, **facts(run, step, charge_of(paid)), digest=digest)

    def entries(self) -> Sequence[Entry]:
        """Every record, oldest first.

        Raises:
            StateError: one is of no form that this program writes.
        """
        return list(entries(self._chain))

    def verify(self) -> int:
        """Recompute everything, offline; returns how many records there are.

        The chain, with the heads that signed manifests carried; the sums that spare its replay; and every committed
        digest against the outbox's manifests of releases that spend, and the other way round.

        Raises:
            StateError: something of it was changed, dropped or added.
        """
        with self._state.snapshot():
            return verify(self._state, self._chain)

    def accounts(self, budgets: Mapping[str, Budget]) -> Sequence[Account]:
        """What every data set has paid that is registered or was.

        Args:
            budgets: what the policy grants, by data set.
        """
        with self._state.snapshot():
            rows = self._state.rows("SELECT * FROM charges ORDER BY reserved, run, step")
        charges: dict[str, dict[str, list[Any]]] = {name: {} for name in budgets}
        for row in rows:
            charges.setdefault(row["dataset"], {}).setdefault(row["run"], []).append(row)
        return [account(name, budgets.get(name), charges[name]) for name in sorted(charges)]

    def _check(self, run: str, charge: Charge, budget: Budget | None) -> None:
        if budget is None:
            raise BudgetRefusal(
                f"the data set {charge.dataset!r} is not registered in the policy",
                fix="register it under `datasets` with its budget, if you agree",
                kept=_KEPT,
            )
        if not 0 < charge.delta <= budget.delta:
            raise BudgetRefusal(
                f"run {run} asks for δ = {charge.delta:g}; the policy grants {charge.dataset!r} at most"
                f" {budget.delta:g}",
                fix="have the run specification ask for a smaller δ",
                kept=_KEPT,
            )
        # every comparison is of the form `not a <= b`: what is no number is refused
        spent = self._state.rows("SELECT mechanism, times FROM spent WHERE dataset=?", charge.dataset)
        counted = [*((row["mechanism"], row["times"]) for row in spent), (text_of(charge.mechanism), 1)]
        total = divergence(counted, budget.filter.order)
        if not total <= budget.filter.limit:
            raise BudgetRefusal(
                f"run {run} would bring {charge.dataset!r} to ε = {budget.filter.epsilon(total):.3g} for life;"
                f" the policy grants {budget.epsilon_for_life:g}",
                fix="ask for more noise; a higher `epsilon_for_life` is a new promise to the people in the table",
                kept=_KEPT,
            )
        rows = self._state.rows("SELECT * FROM charges WHERE run=? AND dataset=?", run, charge.dataset)
        mechanism, delta = together([*[charge_of(row) for row in rows], charge])
        if not mechanism.within(budget.epsilon_per_run, delta):
            raise BudgetRefusal(
                f"run {run} would cost {charge.dataset!r} ε = {mechanism.epsilon(delta):.3g};"
                f" the policy grants a run {budget.epsilon_per_run:g}",
                fix="have the run specification ask for less, or raise `epsilon_per_run` if you agree",
                kept=_KEPT,
            )

    def _paid(self, run: str, step: str) -> Any:
        return self._state.row("SELECT * FROM charges WHERE run=? AND step=?", run, step)
