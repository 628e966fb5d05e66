"""Who approves a run sees what it asks: the columns, and what leaves without a privacy claim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import protocols
from protocols.spec import parse_spec
from services import board
from silo_agent.request import request
from tests import tables
from tests.world import DATASET, World, permissive


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, protocol="silofuse", tables=tables.write_silos(tmp_path))
    world.policies["north"] = permissive("silofuse", approval="manual")
    yield world
    world.close()


@pytest.fixture
def run(world: World) -> str:
    """A run that waits for north's approval."""
    world.asleep = {"south", "west"}
    run = world.hub.submit(tables.spec())
    world.settle()
    return run


def shown(world: World, run: str, *, as_json: bool) -> str:
    console = Console(record=True, width=300)
    state = world.parts["north"].state
    board.show(console, state, run, as_json=as_json, wait=False, more=lambda one: request(one, "north", DATASET))
    return console.export_text()


def test_the_approver_reads_every_column_and_what_leaves_unprotected(world: World, run: str) -> None:
    text = shown(world, run, as_json=False)
    assert "silo-agent approve" in text
    for name in (*tables.COLUMNS["north"], "person"):
        assert name in text
    assert "type integer, min 0, max 120" in text
    for kind, sentence in protocols.unprotected(parse_spec(tables.spec())).items():
        assert kind in text
        assert sentence in text


def test_programs_read_the_same(world: World, run: str) -> None:
    facts: dict[str, Any] = json.loads(shown(world, run, as_json=True))
    assert list(facts["columns"]) == ["person", *tables.COLUMNS["north"]]
    assert facts["columns"]["person"] == {"type": "identifier", "form": "text"}
    assert facts["unprotected"] == dict(protocols.unprotected(parse_spec(tables.spec())))


def test_a_run_of_an_unknown_protocol_is_shown_all_the_same(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "_PACKAGES", {})
    assert "no protocol" in shown(world, run, as_json=False)


def test_the_approver_of_a_run_that_spends_reads_how_much(tmp_path: Path) -> None:
    world = World(tmp_path, protocol="sgde", tables=tables.write_shared(tmp_path))
    world.policies["north"] = permissive("sgde", approval="manual")
    run = world.hub.submit(tables.shared_spec())
    world.settle()
    facts: dict[str, Any] = json.loads(shown(world, run, as_json=True))
    world.close()
    assert 1.4 < facts["spends"].pop("epsilon") <= 1.5
    assert facts["spends"] == {
        "data set": DATASET, "delta": 1e-5, "unit": "person", "adjacency": "add or remove one person",
    }  # fmt: skip
    assert list(facts["columns"])[:2] == ["person", "age"]
