"""What data sets have paid, told in ε."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.errors import BudgetRefusal
from services.ledger.budget import Budget, Charge
from services.ledger.entry import charge_of, mechanism_of
from services.mechanism import Mechanism, adjacency_in_words, composed


@dataclass(frozen=True)
class RunAccount:
    """What one run has cost a data set: ε at δ between which tables, and how many of its releases were sealed."""

    run: str
    epsilon: float
    delta: float
    adjacency: str
    reserved: int
    committed: int
    approvers: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class Account:
    """What a data set has paid.

    Attributes:
        budget: what the policy grants it now; None when it is no longer registered.
        spent: ε for life at the budget's δ; None without a budget.
        share: the part of the ceiling that is used, from 0 to 1 (above it, if the ceiling was lowered): Rényi
            divergences add up, ε does not.
        adjacency: between which tables `spent` is told, in words; empty when nothing was paid.
        runs: oldest first.
    """

    dataset: str
    budget: Budget | None
    spent: float | None
    share: float | None
    adjacency: str
    runs: tuple[RunAccount, ...]


def divergence(spent: Iterable[tuple[str, int]], order: int) -> float:
    """What mechanisms, each so many times, add up to at an order."""
    # counts are exact and math.fsum rounds once: a million charges lose nothing
    return math.fsum(times * _rdp(text, order) for text, times in spent)


def together(charges: Sequence[Charge]) -> tuple[Mechanism, float]:
    """One run's charges on one data set as one mechanism, and the smallest δ among them.

    Raises:
        BudgetRefusal: they are of more different kinds than an ε is computed for.
    """
    try:
        return composed(one.mechanism for one in charges), min(one.delta for one in charges)
    except ValueError as error:
        raise BudgetRefusal(
            "the mechanisms of a run are of more different kinds than its ε can be computed for",
            fix="have the run use the same sampling rate and noise throughout",
        ) from error


def account(dataset: str, budget: Budget | None, runs: Mapping[str, Sequence[Any]]) -> Account:
    """A data set's account.

    Args:
        dataset: its name.
        budget: what the policy grants it.
        runs: its rows of the table `charges`, by run.
    """
    told = tuple(_run(run, rows) for run, rows in runs.items())
    adjacency = adjacency_in_words(charge_of(row).mechanism for rows in runs.values() for row in rows)
    if budget is None:
        return Account(dataset, None, None, None, adjacency, told)
    life = budget.filter
    total = divergence(((row["mechanism"], 1) for rows in runs.values() for row in rows), life.order)
    share = total / life.limit if life.limit > 0 else float(total > 0)
    return Account(dataset, budget, life.epsilon(total), share, adjacency, told)


def _run(run: str, rows: Sequence[Any]) -> RunAccount:
    charges = [charge_of(row) for row in rows]
    mechanism, delta = together(charges)
    return RunAccount(
        run=run,
        epsilon=mechanism.epsilon(delta),
        delta=delta,
        adjacency=adjacency_in_words(one.mechanism for one in charges),
        reserved=len(rows),
        committed=sum(row["digest"] is not None for row in rows),
        approvers=tuple(sorted({row["approver"] for row in rows})),
        since=rows[0]["reserved"],
    )


@lru_cache(maxsize=1 << 14)
def _rdp(text: str, order: int) -> float:
    return mechanism_of(text).rdp(order)
