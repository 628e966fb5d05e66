"""The ledger's promise: what a data set pays for is paid before, once, for life, and never beyond the policy."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.artifact import NoData
from services.errors import BudgetRefusal, PolicyRefusal
from services.ledger import Budget, Charge, Entry, Ledger
from services.ledger.renyi import life_filter
from services.mechanism import Composed, Gaussian, Mechanism, Repeated, Sampled
from services.state import State
from tests.spending import BUDGET, DELTA, NOW, charge, exact_delta, gaussian, put, spend

CHEAP = gaussian(4.0)  # exactly ε = 0.93; seven of them fit under ε = 3 for life
OUTSIDE: dict[str, tuple[Charge, Budget | None, str]] = {
    "not registered": (CHEAP, None, "not registered"),
    "dear for a run": (gaussian(3.0), BUDGET, "cost 'records' ε = 1.27; the policy grants a run 1"),
    "dear for life": (gaussian(1.0), BUDGET, "for life; the policy grants 3"),
    "large δ": (replace(CHEAP, delta=1e-4), BUDGET, "grants 'records' at most 1e-05"),
    "no δ": (replace(CHEAP, delta=0.0), BUDGET, "at most"),
    "δ that is no number": (replace(CHEAP, delta=float("nan")), BUDGET, "at most"),
    "a ceiling under which nothing fits": (
        gaussian(1e6), Budget(epsilon_per_run=1e-4, epsilon_for_life=1e-4, delta=1e-9), "asks for δ"
    ),
}  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state") as state:
        yield state


@pytest.fixture
def ledger(state: State) -> Ledger:
    return Ledger(state)


def reserve(ledger: Ledger, run: str, step: str = "train", paid: Charge = CHEAP, budget: Any = BUDGET) -> None:
    ledger.reserve(run, step, paid, budget, at=NOW, approver="anna")


def traces(state: State) -> list[list[tuple[Any, ...]]]:
    tables = ("chains", "charges", "spent", "outbox")
    return [[tuple(row) for row in state.rows(f"SELECT * FROM {table}")] for table in tables]


# refused before anything is written


@pytest.mark.parametrize("case", OUTSIDE)
def test_what_the_policy_does_not_grant_is_refused_before_anything_is_written(
    state: State, ledger: Ledger, case: str
) -> None:
    asked, budget, words = OUTSIDE[case]
    for attempt in (lambda: ledger.check("r", asked, budget), lambda: reserve(ledger, "r", paid=asked, budget=budget)):
        with pytest.raises(BudgetRefusal, match=re.escape(words)) as caught:
            attempt()
        assert caught.value.fix
        assert "nothing was reserved" in caught.value.kept
    assert traces(state) == [[], [], [], []]


def test_a_check_changes_nothing(state: State, ledger: Ledger) -> None:
    for _ in range(100):
        ledger.check("r", CHEAP, BUDGET)
    assert traces(state) == [[], [], [], []]


def test_a_refusal_is_one_of_the_policy() -> None:
    assert issubclass(BudgetRefusal, PolicyRefusal)
    assert BudgetRefusal.exit_code == PolicyRefusal.exit_code


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon_per_run": 0},
        {"epsilon_per_run": float("nan")},
        {"epsilon_for_life": float("inf")},
        {"epsilon_for_life": 101},
        {"epsilon_per_run": 4},
        {"delta": 0},
        {"delta": 1e-2},
        {"delta": float("nan")},
        {"epsilon": 1},
    ],
)
def test_a_budget_that_promises_nothing_is_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Budget(**{**BUDGET.model_dump(), **wrong})


# the ceilings


def test_a_run_stays_within_its_ceiling_and_the_next_one_has_its_own(ledger: Ledger) -> None:
    reserve(ledger, "one", "first")
    with pytest.raises(BudgetRefusal, match=r"run one would cost 'records' ε = 1\.36"):
        reserve(ledger, "one", "second")
    reserve(ledger, "two", "first")


def test_all_runs_stay_within_the_ceiling_for_life(ledger: Ledger) -> None:
    for number in range(7):
        reserve(ledger, f"run-{number}")
    with pytest.raises(BudgetRefusal, match=r"run last would bring 'records' to ε = 3\.21"):
        reserve(ledger, "last")
    (account,) = ledger.accounts({"records": BUDGET})
    assert account.share == pytest.approx(7 * 8 / (2 * 16) / life_filter(3, DELTA).limit)
    assert exact_delta([4.0] * 7, 3) <= DELTA
    reserve(ledger, "other", paid=replace(CHEAP, dataset="trial"))  # another data set has its own


def test_reservations_are_never_given_back(tmp_path: Path) -> None:
    for number in range(7):
        with State(tmp_path) as state:  # each dies with its run, and nothing was ever sealed
            reserve(Ledger(state), f"run-{number}")
    with State(tmp_path) as state, pytest.raises(BudgetRefusal, match="for life"):
        reserve(Ledger(state), "last")


def test_a_higher_ceiling_counts_all_that_was_spent_below_the_lower_one(ledger: Ledger) -> None:
    for number in range(7):
        reserve(ledger, f"run-{number}")
    higher = BUDGET.model_copy(update={"epsilon_for_life": 4.0})
    total = 7 * life_filter(4, DELTA).order / 32  # at another order, which the records do not mind
    assert ledger.accounts({"records": higher})[0].spent == pytest.approx(life_filter(4, DELTA).epsilon(total))
    reserve(ledger, "more", budget=higher)
    lowered = ledger.accounts({"records": BUDGET})[0]
    assert lowered.share is not None
    assert lowered.share > 1


def test_mechanisms_of_a_run_are_told_exactly_however_many(ledger: Ledger) -> None:
    rounds = Repeated(count=2, of=Sampled(rate=0.01, noise_multiplier=1.5))
    for number in range(50):
        reserve(ledger, "one", f"round-{number}", charge(rounds))
    ((run,),) = [account.runs for account in ledger.accounts({"records": BUDGET})]
    whole = Mechanism(event=Repeated(count=100, of=Sampled(rate=0.01, noise_multiplier=1.5)))
    assert (run.reserved, run.committed, run.approvers) == (50, 0, ("anna",))
    assert run.epsilon == whole.epsilon(DELTA)


def test_a_run_whose_epsilon_cannot_be_computed_is_refused(ledger: Ledger) -> None:
    for number in range(2):
        reserve(ledger, "one", f"{number}", charge(Sampled(rate=0.001 * (1 + number), noise_multiplier=4)))
    with pytest.raises(BudgetRefusal, match="more different kinds"):
        reserve(ledger, "one", "3", charge(Sampled(rate=0.005, noise_multiplier=4)))


# partition


def test_parts_of_a_partition_are_one_charge_and_the_record_names_the_column(ledger: Ledger) -> None:
    reserve(ledger, "split", paid=charge(Gaussian(noise_multiplier=4.0), partition="label"))
    reserve(ledger, "whole")
    split, whole = (run.epsilon for run in ledger.accounts({"records": BUDGET})[0].runs)
    assert split == whole
    assert [entry.charge.mechanism.partition for entry in ledger.entries()] == ["label", None]


def test_a_partition_that_is_charged_twice_costs_twice(ledger: Ledger) -> None:
    paid = charge(Gaussian(noise_multiplier=4.0), partition="label")
    reserve(ledger, "one", "boys", paid)
    with pytest.raises(BudgetRefusal, match="run one would cost"):
        reserve(ledger, "one", "girls", paid)


# once


@pytest.mark.parametrize("budget", [BUDGET, Budget(epsilon_per_run=1e-3, epsilon_for_life=1e-3, delta=1e-9), None])
def test_the_same_charge_again_is_the_same_charge(state: State, ledger: Ledger, budget: Budget | None) -> None:
    reserve(ledger, "one")
    before = traces(state)
    ledger.reserve("one", "train", CHEAP, budget, at=NOW + timedelta(days=1), approver="ben")
    assert traces(state) == before


@pytest.mark.parametrize(
    "other",
    [
        replace(CHEAP, dataset="trial"),
        replace(CHEAP, delta=1e-6),
        gaussian(5.5),
        charge(Gaussian(noise_multiplier=4.0), partition="label"),
        charge(Repeated(count=1, of=Gaussian(noise_multiplier=4.0))),
    ],
)
def test_a_step_pays_for_one_thing(state: State, ledger: Ledger, other: Charge) -> None:
    reserve(ledger, "one")
    before = traces(state)
    with pytest.raises(BudgetRefusal, match="has reserved another"):
        reserve(ledger, "one", paid=other)
    assert traces(state) == before


# what leaves is what was paid for


def commit(ledger: Ledger, **changes: Any) -> None:
    release = {"run": "one", "step": "train", "mechanism": CHEAP.mechanism, "delta": DELTA, "digest": "a" * 64}
    ledger.commit(**{**release, "at": NOW, **changes})


def test_what_was_reserved_is_committed_once(state: State, ledger: Ledger) -> None:
    reserve(ledger, "one")
    commit(ledger, mechanism=CHEAP.mechanism.model_dump(mode="json"))
    before = traces(state)
    commit(ledger)
    assert traces(state) == before
    assert ledger.entries() == [
        Entry(1, "reserved", NOW, "one", "train", CHEAP, approver="anna"),
        Entry(2, "committed", NOW, "one", "train", CHEAP, digest="a" * 64),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "two"},
        {"step": "again"},
        {"mechanism": gaussian(4.9).mechanism},
        {"mechanism": charge(Gaussian(noise_multiplier=4.0), partition="label").mechanism},
        {"mechanism": {}},
        {"mechanism": {"event": {"event": "gaussian", "noise_multiplier": float("nan")}}},
        {"delta": 1e-6},
        {"delta": float("nan")},
    ],
)
def test_what_was_not_reserved_does_not_leave(state: State, ledger: Ledger, changes: dict[str, Any]) -> None:
    reserve(ledger, "one")
    before = traces(state)
    with pytest.raises(BudgetRefusal, match="not what was reserved") as caught:
        commit(ledger, **changes)
    assert "counts as spent" in caught.value.kept
    assert traces(state) == before


def test_a_reservation_pays_for_one_release(state: State, ledger: Ledger) -> None:
    reserve(ledger, "one")
    commit(ledger)
    before = traces(state)
    with pytest.raises(BudgetRefusal, match="another release"):
        commit(ledger, digest="b" * 64)
    assert traces(state) == before


def test_a_commitment_stands_or_falls_with_the_outbox(state: State, ledger: Ledger, tmp_path: Path) -> None:
    reserve(ledger, "one")
    before = traces(state)

    def fail() -> None:
        with state.transaction():
            commit(ledger, digest=put(state, "one", NoData(), tmp_path))
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fail()
    assert traces(state) == before
    spend(ledger, "one", "train", CHEAP, tmp_path)
    assert ledger.verify() == 2


# whatever is asked, in whatever order

ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three", "four"]),
        st.integers(0, 5),
        st.sampled_from(["records", "trial"]),
        st.one_of(st.floats(1, 60), st.sampled_from([4.0, 8.0, 16.0])),
        st.sampled_from([1, 1, 3, 20]),
        st.sampled_from([DELTA, 1e-6, 1e-4]),
    ),
    max_size=40,
)


@given(ATTEMPTS, st.floats(0.05, 2), st.floats(1, 6))
@settings(max_examples=100, deadline=None)
def test_no_sequence_of_attempts_exceeds_a_ceiling(
    attempts: list[tuple[str, int, str, float, int, float]], per_run: float, factor: float
) -> None:
    budget = Budget(epsilon_per_run=per_run, epsilon_for_life=per_run * factor, delta=DELTA)
    paid: dict[tuple[str, str], Charge] = {}
    with tempfile.TemporaryDirectory() as folder, State(Path(folder)) as state:
        ledger = Ledger(state)
        for run, number, dataset, noise, count, delta in attempts:
            step = str(number)
            asked = charge(Repeated(count=count, of=Gaussian(noise_multiplier=noise)), dataset, delta)
            try:
                reserve(ledger, run, step, asked, budget)
            except BudgetRefusal:
                continue
            assert paid.setdefault((run, step), asked) == asked
        assert ledger.verify() == len(paid)
    noises: dict[str, list[float]] = defaultdict(list)
    by_run: dict[tuple[str, str], list[float]] = defaultdict(list)
    deltas: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for (run, _), one in paid.items():
        event: Any = one.mechanism.event
        every = [event.of.noise_multiplier] * event.count
        noises[one.dataset] += every
        by_run[run, one.dataset] += every
        deltas[run, one.dataset] = min(deltas[run, one.dataset], one.delta)
    for spent in noises.values():
        assert exact_delta(spent, budget.epsilon_for_life) <= DELTA
    for key, spent in by_run.items():
        assert exact_delta(spent, per_run) <= deltas[key] * (1 + 1e-6)


# the filter


@given(st.floats(0.01, 100), st.floats(1e-12, 1e-3))
def test_the_filter_turns_a_full_sum_into_the_ceiling_and_nothing_into_nothing(epsilon: float, delta: float) -> None:
    life = life_filter(epsilon, delta)
    assert life.epsilon(0) == 0
    assert life.epsilon(max(life.limit, 1e-9)) == pytest.approx(epsilon, rel=1e-9, abs=1e-9) or life.limit <= 0


def test_the_order_is_the_one_that_lets_through_the_most_of_a_gaussian() -> None:
    import math

    def most(order: int) -> float:
        return 2 / order * (3 - math.log1p(-1 / order) + math.log(DELTA * order) / (order - 1))

    life = life_filter(3, DELTA)
    assert life.order == max(range(2, 200), key=most) == 8
    assert 2 / life.order * life.limit == pytest.approx(most(8))


def test_a_mixture_stays_within_the_ceiling_by_its_exact_epsilon(ledger: Ledger) -> None:
    kinds = [charge(Repeated(count=100, of=Sampled(rate=0.05, noise_multiplier=2.5))), gaussian(6.0)]
    accepted: list[Any] = []
    for number in range(40):
        try:
            reserve(ledger, f"run-{number}", paid=kinds[number % 2])
        except BudgetRefusal:
            continue
        accepted.append(kinds[number % 2])
    sampled = sum(one is kinds[0] for one in accepted)
    assert sampled > 2
    together = Composed(
        of=(
            Repeated(count=100 * sampled, of=Sampled(rate=0.05, noise_multiplier=2.5)),
            Repeated(count=len(accepted) - sampled, of=Gaussian(noise_multiplier=6.0)),
        )
    )
    assert 2.4 < Mechanism(event=together).epsilon(DELTA) <= 3
