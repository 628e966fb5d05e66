"""The audit log's promise: whoever changes, drops, adds or moves a record is found out, by the party or by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.artifact import Unprotected
from services.audit import audit_records, verify_audit
from services.chain import Chain
from services.contract import Message
from services.errors import PolicyRefusal, StateError
from services.state import State
from services.trust import sealing_keys
from tests.world import HUB, World, permissive

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path) as state:
        yield state


def written(state: State, count: int = 5) -> Chain:
    chain = Chain(state, "trial")
    for number in range(count):
        chain.append("thing", NOW, number=number)
    return chain


def test_the_first_head_and_the_second_are_what_the_format_says(state: State) -> None:
    chain = Chain(state, "trial")
    assert chain.head == "8d20058082d81f1808fb9b08f64c4fcd8f792d709fb69a5de478487312445040"
    chain.append("thing", NOW, number=0)
    assert chain.head == "6b40f5c903f21eb5d6d8ccc76204c3d78a3f8d7ddf0cf093a50157f73dde44c7"


def test_what_was_appended_is_read_back_in_order(state: State) -> None:
    chain = written(state)
    assert [link.record["number"] for link in chain.links()] == [0, 1, 2, 3, 4]
    assert [link.head for link in chain.links()][-1] == chain.head
    assert chain.verify() == 5


FORGERIES: dict[str, str] = {
    "changed": """UPDATE chains SET record=replace(record, '"number":2', '"number":7') WHERE number=3""",
    "dropped": "DELETE FROM chains WHERE number=3",
    "dropped at the start": "DELETE FROM chains WHERE number=1",
    "added": "INSERT INTO chains SELECT chain, 6, record, head FROM chains WHERE number=5",
    "moved": "UPDATE chains SET number=-number; UPDATE chains SET number=6+number",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_record_that_was_tampered_with_breaks_the_chain(state: State, forgery: str) -> None:
    chain = written(state)
    for statement in FORGERIES[forgery].split(";"):
        state.write(statement)
    with pytest.raises(StateError, match="breaks at record"):
        chain.verify()


@pytest.mark.parametrize("rewrite", [lambda s: s.write("DELETE FROM chains WHERE number>2"), None], ids=["cut", "anew"])
def test_a_chain_that_was_cut_or_written_anew_lacks_heads_that_were_signed(
    state: State, rewrite: Callable[[State], int] | None
) -> None:
    chain = written(state)
    signed = [link.head for link in chain.links()]
    if rewrite:
        rewrite(state)
    else:
        state.write("DELETE FROM chains")
        written(state, 3)
        Chain(state, "trial").append("nothing happened", NOW)
    chain.verify()
    with pytest.raises(StateError, match="rewritten"):
        chain.verify(signed)


def test_a_record_stands_or_falls_with_its_transaction(state: State) -> None:
    chain = written(state)

    def fail() -> None:
        with state.transaction():
            chain.append("never", NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert chain.verify() == 5


def test_a_run_is_told_in_full_and_every_manifest_carries_a_head_of_the_log(tmp_path: Path) -> None:
    world = World(tmp_path)
    run = world.submit()
    world.settle()
    home = tmp_path / "north" / "state"
    events = [record["event"] for record in audit_records(home)]
    assert [event for event in events if event.startswith("run")] == ["run joined", "run running", "run done"]
    assert events.count("sealed") == 3
    (greeting,) = [one for one in audit_records(home) if one.get("kind") == "echo.greeting"]
    assert greeting["policy"] == world.policies["north"].version
    assert (greeting["to"], greeting["release"], greeting["run"]) == ([HUB], "unprotected", run)
    assert verify_audit(home)[0] == len(events)
    world.parts["north"].state.write("DELETE FROM chains WHERE number=(SELECT max(number) FROM chains)")
    world.parts["north"].audit.append("nothing happened", world.now)
    verify_audit(home)  # nobody has signed this head yet
    world.parts["north"].state.write("DELETE FROM chains WHERE number>2")
    with pytest.raises(StateError, match="rewritten"):
        verify_audit(home)
    world.close()


def test_what_the_policy_holds_back_is_in_the_log(tmp_path: Path) -> None:
    world = World(tmp_path)
    run = world.submit()
    world.settle()
    world.policies["north"] = permissive("echo", unprotected={})
    north = world.parts["north"]
    message = Message("echo.greeting", b"x", Unprotected(reason="because"))
    keys = sealing_keys(north.trust, (HUB,))
    with pytest.raises(PolicyRefusal):
        north.courier.send(run, "again", message, keys, expires=world.now)
    last = audit_records(tmp_path / "north" / "state")[-1]
    assert (last["event"], last["kind"], last["to"]) == ("withheld", "echo.greeting", [HUB])
    world.close()
