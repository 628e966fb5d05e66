"""What a silo is offered is judged before anything is computed or spent, whatever the coordinator let through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.ledger import Budget, Ledger
from tests import tables
from tests.world import DATASET, HUB, World, permissive

NO_LEDGER_ENTRY = 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, protocol="sgde", tables=tables.write_shared(tmp_path))
    yield world
    world.close()


def offer(world: World, **training: Any) -> str:
    """A run that the coordinator offers unchecked."""
    hub, run = world.parts[HUB], "unchecked-1"
    hub.keys.make(run)
    spec = {**tables.shared_spec(**training), "holdout": 0.2, "targets": []}
    hub.book.open(run, json.dumps(spec), HUB, world.now, world.now + timedelta(hours=1))
    world.settle()
    return run


def declined(world: World, run: str, why: str) -> None:
    found = world.run("north", run)
    assert (found.phase, why in found.detail) == ("declined", True), found.detail
    assert world.phases(run)[HUB] == "failed"
    assert len(Ledger(world.parts["north"].state).entries()) == NO_LEDGER_ENTRY
    assert not any("/pool/" in key for key in world.store.objects)


@pytest.mark.parametrize(
    ("training", "why"),
    [
        ({"label": "nothing"}, "label"),
        ({"label": "age"}, "label"),
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": -1}, "epsilon"),
        ({"epsilon": 1e9}, "epsilon"),
        ({"epsilon": "nan"}, "epsilon"),
        ({"delta": 1}, "delta"),
        ({"family": "gan"}, "family"),
        ({"records": 0}, "records"),
        ({"unknown": 1}, "unknown"),
        ({"epsilon": 3.5}, "the policy grants a run 3"),
        ({"delta": 1e-4}, "the policy grants"),
    ],
)
def test_what_cannot_be_run_or_paid_is_declined_and_nothing_is_spent(
    world: World, training: dict[str, Any], why: str
) -> None:
    declined(world, offer(world, **training), why)


def test_a_data_set_that_the_policy_does_not_register_is_not_released(world: World) -> None:
    world.policies["north"] = permissive("sgde", datasets={"others": Budget(
        epsilon_per_run=3, epsilon_for_life=10, delta=1e-5)})  # fmt: skip
    declined(world, offer(world), f"{DATASET!r} is not registered")


def test_an_exhausted_budget_is_refused_before_any_work(world: World) -> None:
    budget = Budget(epsilon_per_run=1.5, epsilon_for_life=1.5, delta=1e-5)
    world.policies["north"] = permissive("sgde", datasets={DATASET: budget})
    first = world.hub.submit(tables.shared_spec(epsilon=1.0))
    world.settle()
    assert set(world.phases(first).values()) == {"done"}
    entries = len(Ledger(world.parts["north"].state).entries())
    objects = len([key for key in world.store.objects if "/north/pool/" in key])
    second = world.hub.submit(tables.shared_spec(epsilon=1.4))
    world.settle()
    assert world.run("north", second).phase == "declined"
    assert "for life" in world.run("north", second).detail
    assert len(Ledger(world.parts["north"].state).entries()) == entries
    assert len([key for key in world.store.objects if "/north/pool/" in key]) == objects
    assert "for life" not in world.run(HUB, second).detail
