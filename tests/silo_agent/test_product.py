"""The product: columns that a silo's policy releases reach the recipient sealed, and join to one table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from services.artifact import Unprotected
from services.contract import Message
from services.errors import DataError, PolicyRefusal, SilokitError
from silo_agent.policy import TABLE, TABLE_REASON
from silo_agent.product import join_tables, received_table, table_message
from tests import tables
from tests.world import World

ROWS = 30


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Three silos that may release to `west`, each with a synthetic table of a run that is done."""
    world = World(tmp_path)
    for silo in world.silos:
        world.policies[silo] = world.policies[silo].model_copy(update={"release_to": ("west",)})
    yield world
    world.close()


@pytest.fixture
def run(world: World) -> str:
    run = world.hub.submit(tables.spec(rows=ROWS, protocol="echo"))
    world.settle()
    made = tables.people(ROWS, seed=5)
    for silo, columns in tables.COLUMNS.items():
        made[list(columns)].to_parquet(world.outputs(silo) / run / "synthetic.parquet", index=False)
    return run


def release(world: World, silo: str, run: str, *to: str) -> None:
    world.silo(silo).release(run, table_message(world.outputs(silo) / run), to)
    world.settle()


def test_released_parts_join_to_one_table(world: World, run: str, tmp_path: Path) -> None:
    release(world, "north", run, "west")
    release(world, "south", run, "west")
    target = join_tables("west", world.run("west", run).spec, world.outputs("west") / run, tmp_path / "joined.csv")
    joined = pd.read_csv(target)
    assert list(joined.columns) == [name for columns in tables.COLUMNS.values() for name in columns]
    assert len(joined) == ROWS


def test_a_part_arrives_although_its_sender_purged_what_came_before_it(world: World) -> None:
    world.parties["west"]._listed = float("inf")  # so that it hears only what is announced to it
    run = world.hub.submit(tables.spec(rows=ROWS, protocol="echo"))
    while set(world.phases(run).values()) != {"done"} or not world.parts["north"].state.finished(run, "ending"):
        world.turn()
    while world.turn():
        pass
    world.parts["north"].purge(run)
    table = world.outputs("north") / run / "synthetic.parquet"
    tables.people(ROWS)[list(tables.COLUMNS["north"])].to_parquet(table, index=False)
    release(world, "north", run, "west")
    assert received_table(world.outputs("west") / run, "north").exists()
    assert world.alarms("west") == 0


def test_a_second_release_says_that_nothing_was_sent(world: World, run: str) -> None:
    north = world.silo("north")
    world.policies["north"] = world.policies["north"].model_copy(update={"release_to": ("west", "south")})
    message = table_message(world.outputs("north") / run)
    assert north.release(run, message, ("west",)) == "released to west"
    world.settle()
    world.parts["north"].purge(run)
    again = north.release(run, message, ("west", "south"))
    assert again.splitlines() == ["released to south", "released to west before: nothing was sent now"]
    world.settle()
    sent = "SELECT recipients FROM outbox WHERE kind=? ORDER BY sequence"
    assert [row["recipients"] for row in world.parts["north"].state.rows(sent, TABLE)] == ["west", "south"]


def test_a_part_that_was_not_released_is_named(world: World, run: str, tmp_path: Path) -> None:
    release(world, "north", run, "west")
    with pytest.raises(DataError, match="south"):
        join_tables("west", world.run("west", run).spec, world.outputs("west") / run, tmp_path / "joined.csv")


def test_nothing_goes_to_whom_the_policy_does_not_name(world: World, run: str) -> None:
    with pytest.raises(PolicyRefusal, match="south"):
        release(world, "north", run, "south")
    with pytest.raises(PolicyRefusal, match="no part"):
        release(world, "north", run, "mallory")


def test_nothing_is_released_before_the_run_is_done(world: World) -> None:
    run = world.submit()
    with pytest.raises(SilokitError):
        release(world, "north", run, "west")


@pytest.mark.parametrize("fault", ["rows", "bounds", "column", "litter"])
def test_a_released_table_that_breaks_the_public_schema_is_set_aside(world: World, run: str, fault: str) -> None:
    path = world.outputs("north") / run / "synthetic.parquet"
    table = pd.read_parquet(path)
    if fault == "rows":
        table = table.iloc[:-1]
    elif fault == "bounds":
        table.loc[0, "age"] = 999
    elif fault == "column":
        table = table.drop(columns="sex")
    table.to_parquet(path, index=False)
    if fault == "litter":
        path.write_bytes(b"\x80\x04litter")
    release(world, "north", run, "west")
    assert "do not fit" in world.quarantined("west")[0]
    assert not list((world.outputs("west") / run).glob("received/*"))


def test_the_release_says_aloud_that_it_is_unprotected(world: World, run: str) -> None:
    message = table_message(world.outputs("north") / run)
    assert message == Message(TABLE, message.payload, Unprotected(reason=TABLE_REASON))
