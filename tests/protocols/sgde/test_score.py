"""Generators that lie about labels are flagged, honest ones are not, and to have few rows is no error."""

from __future__ import annotations

import pytest

from protocols.learning.noise import Noise
from protocols.learning.table import conform
from protocols.sgde.families import family
from protocols.sgde.generator import Description, Generator
from protocols.sgde.score import score
from tests.sgde_world import SCHEMA, parameters, people, silent

OTHERS = {"well": "ill", "ill": "dead", "dead": "well"}


def pool(lying: int = -1, rows: int = 400, size: int = 6) -> dict[str, Generator]:
    run, noise = parameters("moments", records=rows), Noise()
    out = {}
    for number in range(size):
        table = people(rows, number)
        if number == lying:
            table = conform(table.assign(outcome=table["outcome"].astype(str).map(OTHERS)), SCHEMA)
        tensors, _ = family("moments").fit(table, SCHEMA, run, noise, silent)
        out[f"silo-{number}"] = Generator(Description(columns=SCHEMA, parameters=run), tensors)
    return out


def test_permuted_labels_are_flagged_and_honest_ones_are_not() -> None:
    found = score(people(300, 99), pool(lying=2))
    assert [name for name, one in found.items() if one.flagged] == ["silo-2"]
    told = found["silo-2"]
    assert told.by_own is not None
    assert told.of_own is not None
    assert told.by_pool is not None
    assert max(told.by_own, told.of_own, told.by_pool) < 0


@pytest.mark.parametrize(("rows", "classes"), [(0, 3), (1, 1), (20, 1), (3, 3)])
def test_few_rows_leave_the_word_to_the_pool(rows: int, classes: int) -> None:
    found = score(people(rows, classes=classes), pool(lying=2))
    assert found["silo-2"].flagged
    assert found["silo-2"].by_own is None
    assert found["silo-2"].two_sample is None


def test_a_lone_generator_is_scored_by_own_rows() -> None:
    found = score(people(300, 99), pool(size=1))
    assert found["silo-0"].by_pool is None
    assert not found["silo-0"].flagged
    assert score(people(10), {}) == {}


def test_rows_of_other_people_can_be_told_apart() -> None:
    run = parameters("moments", records=400)
    strange = people(400).assign(age=100)
    tensors, _ = family("moments").fit(strange, SCHEMA, run, Noise(), silent)
    odd = Generator(Description(columns=SCHEMA, parameters=run), tensors)
    found = score(people(400, 99), {**pool(), "odd": odd})
    told = {name: one.two_sample or 0 for name, one in found.items()}
    assert told["odd"] == max(told.values())
    assert 0 <= min(told.values()) <= max(told.values()) <= 1
