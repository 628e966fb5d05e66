"""The pool as people use it: real generators from a run, listed, pulled and sampled by the commands."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from services.artifact import Spend
from services.control import ControlServer
from services.errors import InvalidArtifact, NotRunning, SilokitError
from services.mechanism import Composed, Gaussian, Mechanism, Repeated, Sampled
from services.state import State
from services.trust.catalog import release_text
from silo_agent.cli import app
from silo_agent.pool.board import in_words
from silo_agent.pool.commands import check_generator, handlers
from silo_agent.pool.index import PoolIndex, UnknownGenerator, own_copy
from silo_agent.settings import POLICY_TEXT, config_text, load
from tests import tables
from tests.pool import settle
from tests.world import FEDERATION, World

ME = "south"


@dataclass
class House:
    """A silo of a federation that has run SGDE, with its service answering commands."""

    world: World
    run: str
    config: Path

    def say(self, *words: str) -> str:
        """Run a command; raises what it raises."""
        done = CliRunner().invoke(app, [*words, "--config", str(self.config)])
        if isinstance(done.exception, SilokitError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def listed(self) -> dict[str, dict[str, Any]]:
        return {one["silo"]: one for one in json.loads(self.say("pool", "list", "--json"))["generators"]}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="sk-"))  # a socket's path is short
    world = World(folder, protocol="sgde", tables=tables.write_shared(folder))
    run = world.hub.submit(tables.shared_spec())
    settle(world)
    assert set(world.phases(run).values()) == {"done"}
    config = folder / ME / "silo-agent.yaml"
    config.write_text(
        config_text(ME, FEDERATION, folder / f"{ME}.csv", "  folder: ../store", "  sqlite: ../bus.sqlite")
    )
    (folder / ME / "policy.yaml").write_text(POLICY_TEXT)
    settings = load(config)
    parts = world.parts[ME]
    control = ControlServer(settings.home, handlers(parts, settings, world.silo(ME).shelf))
    yield House(world, run, config)
    control.close()
    world.close()
    shutil.rmtree(folder)


def test_before_the_pool_was_read_every_command_says_so(house: House) -> None:
    for words in (("pool", "list"), ("pool", "show", "ab")):
        with pytest.raises(UnknownGenerator):
            house.say(*words)
    with pytest.raises(UnknownGenerator, match="was named"):
        house.say("pool", "pull")


def test_listed_shown_pulled_and_sampled(house: House) -> None:
    silos = len(house.world.silos)
    assert f"{silos} generators of {silos} silos" in house.say("pool", "refresh")
    table = house.say("pool", "list")
    assert all(one["id"][:12] in table for one in house.listed().values())
    one = house.listed()["north"]
    assert (one["run"], one["state"], one["family"]) == (
        house.run,
        "listed",
        tables.shared_spec()["training"]["family"],
    )
    assert one["epsilon"] <= 1.6
    assert json.loads(house.say("pool", "show", one["id"][:9], "--json"))["sha256"] == one["sha256"]
    assert one["id"][:32] in house.say("pool", "show", one["id"])
    assert "pulled" in house.say("pool", "pull", one["id"][:9])
    assert house.listed()["north"]["state"] == "pulled"
    others = house.say("pool", "pull", "--run", house.run)
    assert others.count("  pulled\n") == silos - 1, others
    assert {one["state"] for one in house.listed().values()} == {"pulled"}


def test_pulled_generators_are_scored_by_own_rows_before_use(house: House, tmp_path: Path) -> None:
    scored = json.loads(house.say("pool", "score", "--json"))
    assert json.loads(house.say("pool", "score", "--json")) == scored  # who was flagged stays flagged
    assert {one["silo"] for one in scored} == set(house.world.silos)
    assert all(one["flagged"] == (one["agreement"] < 0) for one in scored)
    assert all(-1 <= one[voice] <= 1 for one in scored for voice in ("by_own", "of_own", "by_pool"))
    assert "not found this way" in house.say("pool", "score", "--run", house.run)
    honest = sum(not one["flagged"] for one in scored)
    if honest:
        out = str(tmp_path / "rows.csv")
        assert f"{honest} generators" in house.say("synthesize", "--per-class", "3", "--out", out, "--without-flagged")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_balanced_over_the_classes_and_repeatable(house: House, tmp_path: Path, suffix: str) -> None:
    house.say("pool", "pull", "--all")
    label = tables.shared_spec()["training"]["label"]
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    made = []
    for number in range(2):
        out = tmp_path / f"{number}.{suffix}"
        house.say("synthesize", "--per-class", "20", "--out", str(out), "--seed", "7")
        made.append(read(out))
    assert set(made[0][label].value_counts()) == {20}
    assert made[0].equals(made[1])
    out = tmp_path / f"one.{suffix}"
    house.say("synthesize", "--per-class", "5", "--out", str(out), "--silo", "north")
    assert set(read(out)[label].value_counts()) == {5}


def test_what_is_not_there_or_not_pulled_is_said(house: House, tmp_path: Path) -> None:
    house.say("pool", "refresh")
    for words in (("--silo", "nobody"), ("--id", "zz"), ("--run", "another")):
        with pytest.raises(UnknownGenerator):
            house.say("synthesize", "--per-class", "5", "--out", str(tmp_path / "x.csv"), *words)


def test_one_that_fails_makes_the_command_fail_and_the_others_stay(house: House) -> None:
    shutil.rmtree(house.world.outputs(ME) / "pool", ignore_errors=True)
    bodies = [key for key in house.world.store.objects if "/west/pool/" in key and key.endswith(".body")]
    kept = {key: house.world.store.objects[key] for key in bodies}
    for key in bodies:
        house.world.store.objects[key] = bytes(len(kept[key]))
    with pytest.raises(InvalidArtifact, match="1 of 3"):
        house.say("pool", "pull", "--all")
    states = {silo: one["state"] for silo, one in house.listed().items()}
    assert states == {"north": "pulled", "south": "pulled", "west": "refused"}
    house.world.store.objects.update(kept)
    house.say("pool", "pull", "--silo", "west")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"family": "vae"}, "family or label"),
        ({"label": "sex"}, "family or label"),
        ({"release": Mechanism(event=Gaussian(noise_multiplier=1.0))}, "ceiling"),
        ({}, ""),
    ],
)
def test_a_file_must_be_the_generator_that_is_listed_within_its_own_ceiling(
    house: House, change: dict[str, Any], why: str
) -> None:
    with State(load(house.config).home, writer=False) as state:
        listed = next(one.listed for one in PoolIndex(state).entries() if one.listed.silo == ME)
    if isinstance(mechanism := change.get("release"), Mechanism):
        change = {"release": release_text(Spend(mechanism=mechanism.model_dump(mode="json"), delta=1e-5))}
    claim = replace(listed, about=listed.about.model_copy(update=change))
    path = own_copy(load(house.config).outputs, listed)
    if not why:
        check_generator(path, claim)
        return
    with pytest.raises(InvalidArtifact, match=why):
        check_generator(path, claim)


def test_only_one_s_own_generators_are_withdrawn(house: House) -> None:
    house.say("pool", "refresh")
    with pytest.raises(SilokitError, match="0 of this silo's generators"):
        house.say("pool", "withdraw", house.listed()["north"]["id"])
    mine = house.listed()[ME]["id"]
    assert "who pulled it keeps it" in house.say("pool", "withdraw", mine)
    settle(house.world)
    house.say("pool", "refresh")
    assert house.listed().get(ME, {}).get("state") in {None, "withdrawn"}


def test_without_the_service_the_list_is_read_and_nothing_else_done(house: House, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.control._address", lambda folder: str(folder / "nobody.sock"))
    assert house.listed()
    for words in (("pool", "refresh"), ("pool", "pull", "--all"), ("pool", "withdraw", "ab")):
        with pytest.raises(NotRunning):
            house.say(*words)


def test_mechanisms_in_words() -> None:
    one, two = Gaussian(noise_multiplier=8.0), Sampled(rate=0.01, noise_multiplier=1.5)
    event = Composed(of=(one, Repeated(count=2000, of=two)))
    assert (
        in_words(Mechanism(event=event, partition="income"))
        == "Gaussian, σ = 8 + 2,000 x (Gaussian on a sample of 0.01, σ = 1.5), in each part by income"
    )
