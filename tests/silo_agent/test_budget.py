"""`silo-agent budget`: a silo's people see what every data set has paid, in which runs, by whose word, and check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from services.config import read_config
from services.errors import ConfigError, StateError
from services.ledger import Budget, Ledger
from services.mechanism import Gaussian
from services.state import State
from silo_agent.cli import app
from silo_agent.policy import Policy
from silo_agent.settings import POLICY_TEXT, load, load_policy
from tests.spending import NOW, charge, gaussian, spend

WORDS = ("--name", "clinic", "--federation", "heart", "--store", "/tmp/store", "--bus", "/tmp/bus.sqlite")
POLICY = {
    "datasets": {
        "records": {"epsilon_per_run": 1, "epsilon_for_life": 3, "delta": 1e-5},
        "registry": {"epsilon_per_run": 0.5, "epsilon_for_life": 2, "delta": 1e-6},
    }
}
TABLE = """
 data set  spent for life                    ε  of   at δ  adjacency
 records   █████░░░░░░░░░░░░░░░░░░░  23%  1.62   3  1e-05  add or remove one person
 registry  ░░░░░░░░░░░░░░░░░░░░░░░░  0%   0.00   2  1e-06
 the bar is what adds up from run to run; ε does not

 run      data set     ε  of   at δ  adjacency                 sealed  since       approved by
 heart-1  records   0.93   1  1e-05  add or remove one person  1 of 1  2026-01-01  anna
 heart-2  records   0.73   1  1e-05  add or remove one person  1 of 2  2026-01-01  anna, the policy (automatic approval)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A silo that was set up and whose people have not edited anything."""
    monkeypatch.setattr("silo_agent.budget.console", Console(width=140))
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init", "clinic", *WORDS]).exit_code == 0
    State(tmp_path / "clinic" / "state").close()
    return tmp_path / "clinic"


@pytest.fixture
def silo(folder: Path) -> Path:
    """A silo that has spent: two sealed releases and one that never left."""
    (folder / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    with State(folder / "state") as state:
        ledger = Ledger(state)
        spend(ledger, "heart-1", "generator", gaussian(4.0), folder)
        paid = charge(Gaussian(noise_multiplier=6.0), partition="label")
        spend(ledger, "heart-2", "generator", paid, folder)
        budget = Budget(**POLICY["datasets"]["records"])
        ledger.reserve("heart-2", "again", gaussian(9.0), budget, at=NOW, approver="the policy (automatic approval)")
    return folder


def said(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["budget", *words, "--config", str(folder / "silo-agent.yaml")])
    if done.exception:
        raise done.exception
    return "\n".join(line.rstrip() for line in done.output.splitlines())


def test_an_untouched_silo_has_no_data_set_and_has_paid_nothing(folder: Path) -> None:
    assert said(folder) == "The policy registers no data set, and none has paid anything."
    assert said(folder, "--json") == "[]"
    assert said(folder, "verify").startswith("0 entries, none changed, dropped or moved")


def test_a_bar_for_each_data_set_and_a_line_for_each_run(silo: Path) -> None:
    assert said(silo) == TABLE.strip("\n")


def test_programs_read_the_same(silo: Path) -> None:
    records, registry = json.loads(said(silo, "--json"))
    assert (records["dataset"], records["budget"]) == ("records", POLICY["datasets"]["records"])
    first, second = records["runs"]
    assert (first["run"], first["reserved"], first["committed"], first["approvers"]) == ("heart-1", 1, 1, ["anna"])
    assert (second["reserved"], second["committed"], len(second["approvers"])) == (2, 1, 2)
    assert second["epsilon"] == pytest.approx(charge(Gaussian(noise_multiplier=5.0)).mechanism.epsilon(1e-5), rel=0.01)
    assert (registry["spent"], registry["share"], registry["runs"]) == (0, 0, [])


def test_a_total_over_both_kinds_of_releases_is_about_values_alone(silo: Path) -> None:
    with State(silo / "state") as state:
        values = charge(Gaussian(noise_multiplier=9.0), adjacency="replace-one")
        spend(Ledger(state), "heart-3", "latents", values, silo)
    records, registry = json.loads(said(silo, "--json"))
    assert records["adjacency"] == "replace one person's values only (releases of both kinds)"
    assert [run["adjacency"] for run in records["runs"]] == [
        "add or remove one person", "add or remove one person", "replace one person's values",
    ]  # fmt: skip
    assert registry["adjacency"] == ""


def test_a_data_set_that_is_no_longer_registered_keeps_its_history(silo: Path) -> None:
    (silo / "policy.yaml").write_text("datasets: {}")
    shown = said(silo)
    assert "records   not registered" in shown
    assert "heart-2" in shown
    (records,) = json.loads(said(silo, "--json"))
    assert (records["budget"], records["spent"], len(records["runs"])) == (None, None, 2)


def test_a_lowered_ceiling_shows_a_full_bar(silo: Path) -> None:
    lowered = {"records": {"epsilon_per_run": 1, "epsilon_for_life": 1, "delta": 1e-5}}
    (silo / "policy.yaml").write_text(yaml.safe_dump({"datasets": lowered}))
    assert "█" * 24 in said(silo)
    assert json.loads(said(silo, "--json"))[0]["share"] > 1


def test_verify_works_offline_and_while_the_agent_runs_and_finds_a_forgery(silo: Path) -> None:
    with State(silo / "state") as state:
        assert said(silo, "verify").startswith("5 entries, none changed, dropped or moved; what left is what was paid")
        head = Ledger(state).head
        assert said(silo, "verify").endswith(head)
        state.write("""UPDATE chains SET record=replace(record, '"noise_multiplier":9.0', '"noise_multiplier":99.0')""")
    with pytest.raises(StateError, match="the ledger chain breaks at record 5"):
        said(silo, "verify")


# the files that people edit


def test_a_new_silo_names_its_data_set_and_shows_how_to_register_it(folder: Path) -> None:
    config = load(folder / "silo-agent.yaml")
    assert config.dataset == "records"
    assert load_policy(config).datasets == {}
    (line,) = [line for line in POLICY_TEXT.splitlines() if line.startswith("#   records:")]
    registered = Policy.model_validate({"datasets": yaml.safe_load(line.lstrip("# "))}).datasets[config.dataset]
    assert registered.epsilon_for_life >= 2 * registered.epsilon_per_run


def test_a_policy_from_before_the_ledger_is_valid_and_grants_nothing(tmp_path: Path) -> None:
    before = POLICY_TEXT.split("# What may be released about each data set")[0]
    (tmp_path / "policy.yaml").write_text(before)
    assert read_config(tmp_path / "policy.yaml", Policy).datasets == {}


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"epsilon_per_run": 4}, "epsilon_for_life is at least epsilon_per_run"),
        ({"epsilon_per_run": 0}, "greater than 0"),
        ({"delta": 0.01}, "less than or equal to 0.001"),
        ({"epsilon": 1}, "epsilon"),
    ],
)
def test_a_budget_that_promises_nothing_is_refused_with_its_key(silo: Path, budget: dict[str, Any], words: str) -> None:
    records = {**POLICY["datasets"]["records"], **budget}
    (silo / "policy.yaml").write_text(yaml.safe_dump({"datasets": {"records": records}}))
    with pytest.raises(ConfigError, match=words) as caught:
        said(silo)
    assert "datasets.records" in str(caught.value)
