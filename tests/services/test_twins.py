"""Two agents of one name, from one state that was copied: both would spend one budget, so neither goes on."""

from __future__ import annotations

import copy
import secrets
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

import services.host
import services.party
from services.artifact import NoData, Spend
from services.contract import Message, Step, Work
from services.errors import StateError, TrustError
from services.ledger import Ledger
from services.wiring import Assembly
from tests.echo import silo as echo_silo
from tests.spending import DELTA, gaussian
from tests.world import HUB, World

RELEASE = Spend(mechanism=gaussian(8.0).mechanism.model_dump(mode="json"), delta=DELTA)


@pytest.fixture
def twin(world: World, run: str) -> Iterator[Assembly]:
    """Another north over the same store, from a copy of its state; both are up to date, and both live."""
    other = copy.copy(world)
    other.folder, other.parts, other.desks, other.parties = world.folder / "elsewhere", {}, {}, {}
    world.kill("north")
    shutil.copytree(world.folder / "north", other.folder / "north")
    world.start("north")
    other.start("north")
    yield other.parts["north"]
    other.close()


def speak(parts: Assembly, run: str) -> None:
    """Publish a word, as whoever joins a run does."""
    word, to = Message("run.word", b"{}", NoData()), {HUB: parts.courier.everybody()[HUB]}
    parts.courier.send(run, f"word {secrets.token_hex(4)}", word, to, expires=parts.book.get(run).deadline)
    parts.courier.deliver()


def test_whoever_finds_that_the_other_has_spoken_spends_nothing_new_and_ends(
    world: World, twin: Assembly, run: str
) -> None:
    north, party = world.parts["north"], world.parties["north"]
    party.look_again()
    north.purse(run, "begun before", RELEASE)
    speak(twin, run)
    with pytest.raises(StateError, match="that north signed and this state does not know"):
        north.purse(run, "new", RELEASE)
    north.purse(run, "begun before", RELEASE)
    assert Ledger(north.state).verify() == 1
    with pytest.raises(StateError, match="that north signed and this state does not know"):
        party.look_again()


def test_a_service_ends_when_its_periodic_look_finds_another(
    world: World, twin: Assembly, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = world.parties["north"]
    monkeypatch.setattr(services.party, "RECONCILE_EVERY", 0.0)
    rounds = iter(range(20))

    def meanwhile() -> None:
        if next(rounds, None) is None:
            party.stop()  # nobody looked
        else:
            speak(twin, run)

    monkeypatch.setattr(party, "_say_ready", meanwhile)
    with pytest.raises(StateError, match="that north signed and this state does not know"):
        party.run()
    with pytest.raises(TrustError, match="nothing is spent"):
        world.parts["north"].purse(run, "new", RELEASE)


def spend_to_greet(monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """Have north's greeting in one run cost privacy."""
    begin = echo_silo.Silo.begin

    def spending(self: Any) -> Iterator[Step]:
        if (self._context.run, self._context.me) != (run, "north"):
            yield from begin(self)
        else:
            yield Work("greeting", self._greet, to=(HUB,), spends=RELEASE)

    monkeypatch.setattr(echo_silo.Silo, "begin", spending)


def join(world: World, run: str) -> None:
    """Bring a run to where all have joined it, and north has not begun."""
    party = world.parties["north"]
    world.asleep = {"north"}
    for _ in range(200):
        world.turn()
        party.exchange()
        party.host._reception.attend(party.desk)
        party.desk.tick()
        if world.phases(run)["north"] == "running":
            return
    raise AssertionError(world.phases(run))


def work(world: World) -> None:
    """Let north do what there is to do, up to a limit."""
    party = world.parties["north"]
    for _ in range(10):
        party.host.work_once(party.desk)


def test_a_run_about_to_spend_does_not_fail_because_of_another_agent(
    world: World, twin: Assembly, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settle()
    begun = world.submit()
    spend_to_greet(monkeypatch, begun)
    join(world, begun)
    speak(twin, run)
    for _ in range(5):  # as often as a service may be started again
        with pytest.raises(StateError, match="does not know"):
            work(world)
        world.restart("north")
    assert world.run("north", begun).phase == "running"
    assert Ledger(world.parts["north"].state).verify() == 0


def test_while_the_store_is_away_a_run_about_to_spend_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.host, "_TRUST_WAIT", 0.0)
    run, north = world.submit(), world.parts["north"]
    spend_to_greet(monkeypatch, run)
    join(world, run)
    world.store.down = True
    work(world)
    assert world.run("north", run).phase == "running"
    assert Ledger(north.state).verify() == 0
    world.store.down = False
    work(world)
    assert Ledger(north.state).verify() == 1


def test_what_this_very_agent_puts_into_the_store_during_a_look_is_no_other_agent_s(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, listing = world.parts["north"], world.store.list

    def busy(prefix: str) -> Iterator[str]:
        speak(north, run)
        return listing(prefix)

    monkeypatch.setattr(world.store, "list", busy)
    north.courier.check_own_past()
