"""The ledger proves itself offline: whoever changes what was spent, or what it paid for, is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact import POOL, NoData, Spend
from services.chain import Chain
from services.contract import Message
from services.errors import StateError
from services.ledger import LEDGER, Ledger
from services.state import State
from tests.spending import BUDGET, DELTA, NOW, gaussian, put, spend
from tests.world import DATASET, World


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A ledger with four reservations, two of which were sealed, beside an artifact that holds no data."""
    with State(tmp_path / "state") as state:
        ledger = Ledger(state)
        for run in ("one", "two"):
            put(state, run, NoData(), tmp_path, {LEDGER: ledger.head})
            spend(ledger, run, "train", gaussian(5.0), tmp_path)
            ledger.reserve(run, "more", gaussian(9.0), BUDGET, at=NOW, approver="ben")
    return tmp_path / "state"


def test_an_honest_ledger_verifies_offline_and_while_the_agent_is_running(home: Path) -> None:
    with State(home), State(home, writer=False) as reader:
        assert Ledger(reader).verify() == 6


def test_what_is_published_lies_outside_its_run_and_is_paid_for_by_it(home: Path) -> None:
    with State(home) as state:
        ledger = Ledger(state)
        spend(ledger, "three", "generator", gaussian(9.0), home, under=POOL)
        assert ledger.verify() == 8


def test_what_the_courier_sends_is_what_the_ledger_proves(world: World, run: str) -> None:
    north = world.parts["north"]
    release = Spend(mechanism=gaussian(8.0).mechanism.model_dump(mode="json"), delta=DELTA)
    world.spending("north", north.state).reserve(run, "publish", release)
    north.courier.publish(
        run, "publish", Message("pool.generator", b"a generator", release), north.courier.everybody(),
        seconds=0, schema_hash=world.run("north", run).spec_hash,
    )  # fmt: skip
    world.settle()
    (account,) = Ledger(north.state).accounts({DATASET: BUDGET})
    assert [(one.run, one.reserved, one.committed) for one in account.runs] == [(run, 1, 1)]
    with State(world.home("north"), writer=False) as reader:
        assert Ledger(reader).verify() == 2


def sql(*statements: str) -> Callable[[State], None]:
    def tamper(state: State) -> None:
        for statement in statements:
            assert state.write(statement)

    return tamper


def rewrite(state: State, change: Callable[[str], str | None]) -> None:
    """Write the chain anew, with right hashes, by whoever knows how: its records as `change` leaves them."""
    links = [json.dumps(dict(link.record)) for link in Chain(state, LEDGER).links()]
    state.write("DELETE FROM chains WHERE chain=?", LEDGER)
    for changed in filter(None, map(change, links)):
        facts = json.loads(changed)
        Chain(state, LEDGER).append(facts.pop("event"), NOW, **{k: v for k, v in facts.items() if k != "at"})


def more_noise(state: State) -> None:
    rewrite(state, lambda record: record.replace("9.0", "90.0"))
    for table in ("charges", "spent"):
        state.write(f"UPDATE {table} SET mechanism=replace(mechanism, '9.0', '90.0')")


def forget_a_release(state: State) -> None:
    rewrite(state, lambda record: None if '"two"' in record else record)
    state.write("DELETE FROM charges WHERE run='two'")
    state.write("UPDATE spent SET times=times-1")
    state.write("DELETE FROM spent WHERE times=0")


def forget_the_end(state: State) -> None:
    state.write("DELETE FROM chains WHERE chain='ledger' AND number=6")
    state.write("DELETE FROM charges WHERE run='two' AND step='more'")
    state.write("UPDATE spent SET times=times-1 WHERE mechanism LIKE '%9.0%'")


def unpaid(state: State) -> None:
    mechanism = gaussian(5.0).mechanism.model_dump(mode="json")
    put(state, "three", Spend(mechanism=mechanism, delta=DELTA), state.folder)


def another_manifest(state: State) -> None:
    (kept,) = state.rows("SELECT manifest FROM outbox WHERE run='one' AND sequence=1")
    state.write("UPDATE outbox SET manifest=? WHERE run='two' AND sequence=2", kept["manifest"])


def paid_for_something_cheaper(state: State) -> None:
    """The program spends more than it reserved, and says so in the manifest alone."""
    ledger = Ledger(state)
    ledger.reserve("three", "train", gaussian(9.5), BUDGET, at=NOW, approver="ben")
    mechanism = gaussian(5.0).mechanism.model_dump(mode="json")
    name = put(state, "three", Spend(mechanism=mechanism, delta=DELTA), state.folder)
    ledger.commit("three", "train", gaussian(9.5).mechanism, DELTA, name, NOW)


def commit_of_nothing(state: State) -> None:
    Ledger(state).commit("two", "more", gaussian(9.0).mechanism, DELTA, "a" * 64, NOW)


def unknown_form(state: State) -> None:
    Chain(state, LEDGER).append("refunded", NOW, run="one", step="train")


def reserved_twice(state: State) -> None:
    facts = dict(next(iter(Chain(state, LEDGER).links())).record)
    Chain(state, LEDGER).append(facts.pop("event"), NOW, **{k: v for k, v in facts.items() if k != "at"})


FORGERIES: dict[str, tuple[Callable[[State], None], str]] = {
    "a record was changed": (
        sql("UPDATE chains SET record=replace(record, '9.0', '90.0') WHERE number=3"), "breaks at record 3"
    ),
    "a record was dropped": (sql("DELETE FROM chains WHERE number=4"), "breaks at record"),
    "all was written anew with more noise": (more_noise, "rewritten"),
    "all was written anew without a release": (forget_a_release, "rewritten"),
    "the sum was lowered": (sql("UPDATE spent SET times=times-1 WHERE times=2"), "sums"),
    "the sum forgot a mechanism": (sql("DELETE FROM spent WHERE mechanism LIKE '%9.0%'"), "sums"),
    "a charge was forgotten": (sql("DELETE FROM charges WHERE step='more'"), "sums.*step more of run one"),
    "a charge was made cheaper": (
        sql("UPDATE charges SET mechanism=replace(mechanism, '9.0', '90.0')"), "sums.*step more of run one"
    ),
    "a commitment names another release": (sql("UPDATE charges SET digest='00' WHERE digest NOT NULL"), "sums"),
    "a release was forgotten": (sql("DELETE FROM outbox WHERE run='one' AND sequence=2"), "1 releases that are not"),
    "a release was exchanged": (another_manifest, "another manifest"),
    "a manifest is none": (sql("UPDATE outbox SET manifest='{}' WHERE run='one'"), "a manifest that is none"),
    "a release was never paid": (unpaid, "left that the ledger has not paid for"),
    "a release tells another mechanism": (paid_for_something_cheaper, "left that the ledger has not paid for"),
    "a release was paid that never was": (commit_of_nothing, "1 releases that are not"),
    "a charge was given back": (unknown_form, "unknown form"),
    "a charge was reserved twice": (reserved_twice, "does not follow"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forgery_is_found(home: Path, case: str) -> None:
    tamper, words = FORGERIES[case]
    with State(home) as state:
        tamper(state)
    with State(home, writer=False) as reader, pytest.raises(StateError, match=words) as caught:
        Ledger(reader).verify()
    assert caught.value.fix


def test_what_no_manifest_has_carried_yet_can_be_forgotten_unseen(home: Path) -> None:
    # the sharp edge, and why it is none: what nobody was sent has cost nobody anything
    with State(home) as state:
        forget_the_end(state)
        assert Ledger(state).verify() == 5
