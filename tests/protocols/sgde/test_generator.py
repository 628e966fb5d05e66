"""A generator comes back as it was written, and whatever is not one is refused before it costs anything."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from protocols.learning.noise import Noise
from protocols.learning.table import conform
from protocols.sgde.families import family
from protocols.sgde.generator import Description, Generator, read, sample, shares, write
from protocols.sgde.parameters import FamilyName
from services.errors import ConfigError, InvalidArtifact, RunFailed
from tests.sgde_world import FAMILIES, SCHEMA, parameters, people, silent


def generator(name: FamilyName = "moments", seed: int = 0, **changes: Any) -> Generator:
    run = parameters(name, **changes)
    tensors, _ = family(name).fit(people(200, seed), SCHEMA, run, Noise(), silent)
    return Generator(Description(columns=SCHEMA, parameters=run), tensors)


def described(one: Generator) -> dict[str, Any]:
    return json.loads(one.description.model_dump_json(exclude_defaults=True))  # type: ignore[no-any-return]


def forged(path: Path, one: Generator, description: object, **tensors: Any) -> Path:
    text = description if isinstance(description, str) else json.dumps(description)
    path.write_bytes(save({**one.tensors, **tensors}, metadata={"description": text}))
    return path


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("records", [50, 50_000])
def test_a_generator_comes_back(tmp_path: Path, name: FamilyName, records: int) -> None:
    one = generator(name, records=records)
    write(tmp_path / "g", one)
    back = read(tmp_path / "g")
    assert back.description == one.description
    assert all(np.array_equal(back.tensors[n], one.tensors[n]) for n in one.tensors)
    assert back.sample(5, seed=1).equals(one.sample(5, seed=1))


def test_seeds_repeat_and_their_absence_does_not() -> None:
    one = generator()
    assert one.sample(50, seed=1).equals(one.sample(50, seed=1))
    assert not one.sample(50).equals(one.sample(50))


def test_a_pool_of_several_forms_gives_exactly_what_is_asked_for() -> None:
    pool = [generator("moments"), generator("moments", 1), generator("logistic"), generator("tan"), generator("vae")]
    made = sample(pool, {"well": 7, "dead": 101}, seed=0)
    assert made["outcome"].value_counts().to_dict() == {"well": 7, "ill": 0, "dead": 101}
    assert conform(made, SCHEMA).equals(made)
    assert sum(shares(pool).values()) == pytest.approx(1)


def test_what_cannot_be_sampled_is_refused() -> None:
    other = generator().description.model_copy(update={"columns": {n: SCHEMA[n] for n in ("age", "outcome")}})
    for pool, counts in [
        ([], 1),
        ([generator()], {"nobody": 1}),
        ([generator()], -1),
        ([generator()], 10**8),
        ([generator(), Generator(other, {})], 1),
    ]:
        with pytest.raises(ConfigError):
            sample(pool, counts)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"layers": []},
        {"columns": {}},
        {"columns": {"note": {"type": "text"}}},
        {"parameters": {}},
        {"parameters": {"label": "elsewhere", "family": "moments", "records": 100}},
        {"parameters": {"label": "age", "family": "moments", "records": 100}},
        {"parameters": {"label": "outcome", "family": "gan", "records": 100}},
        {"parameters": {"label": "outcome", "family": "moments", "records": 100, "epsilon": -1}},
        {"parameters": {"label": "outcome", "family": "moments", "records": 100, "code": "import os"}},
        {"parameters": {"label": "outcome", "family": "vae", "records": 100, "vae": {"width": 10**9}}},
        {"parameters": {"label": "outcome", "family": "vae", "records": 100}},
    ],
)
def test_a_description_that_does_not_hold_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    one = generator()
    with pytest.raises(InvalidArtifact):
        read(forged(tmp_path / "g", one, {**described(one), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1, "version": 1}', "[" * 50 + "]" * 50, "x" * (1 << 20)])
def test_a_text_that_is_no_description_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArtifact):
        read(forged(tmp_path / "g", generator(), text))


def test_a_giant_is_refused_before_its_tensors_are_looked_at(tmp_path: Path) -> None:
    one = generator()
    labels = [str(number) for number in range(1000)]
    giant = {f"c{number}": {"type": "category", "categories": labels} for number in range(30)}
    run = {"label": "outcome", "family": "vae", "records": 100, "vae": {"width": 1024}}
    columns = {**giant, "outcome": {"type": "category", "categories": [str(number) for number in range(100)]}}
    with pytest.raises(InvalidArtifact, match="exceeds the limit"):
        read(forged(tmp_path / "g", one, {"columns": columns, "parameters": run}))


@pytest.mark.parametrize(
    "tensors",
    [
        {"count": np.array([1, np.nan, 1], np.float32)},
        {"count": np.array([1, np.inf, 1], np.float32)},
        {"count": np.ones(4, np.float32)},
        {"count": np.ones(3)},
        {"extra": np.ones(1, np.float32)},
    ],
)
def test_other_tensors_than_the_expected_are_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    one = generator()
    with pytest.raises(InvalidArtifact):
        read(forged(tmp_path / "g", one, described(one), **tensors))


def test_files_of_other_forms_are_refused(tmp_path: Path) -> None:
    one, path = generator(), tmp_path / "g"
    for data in (
        b"",
        pickle.dumps({"a": 1}),
        save(dict(one.tensors)),
        save(dict(one.tensors), metadata={"description": "{}", "more": "x"}),
        save(dict(one.tensors), metadata={"format": "pt"}),
    ):
        path.write_bytes(data)
        with pytest.raises(InvalidArtifact):
            read(path)


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    one = generator()
    with pytest.raises(RunFailed):
        write(tmp_path / "g", Generator(one.description, {"count": np.array([np.nan])}))
