"""The command lines as people meet them: what goes wrong is said in words, with what to do next, and loses nothing."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import coordinator.cli
import silo_agent.cli
from coordinator.trust.draft import Draft
from coordinator.trust.keyholders import present
from coordinator.trust.metadata import make_targets, roster_bytes
from coordinator.trust.repository import Repository
from services.runs import RunBook
from services.state import State
from services.store.folder import FolderStore
from tests import tables
from tests.programs.commands import REPOSITORY, run
from tests.programs.federation import HUB, Federation, temporary, until

APPS = {"coordinator": coordinator.cli.app, "silo-agent": silo_agent.cli.app}


@pytest.fixture(scope="module")
def standing() -> Iterator[Federation]:
    """A federation that no test changes for good."""
    with temporary(silos=tuple(tables.COLUMNS), protocol="silofuse") as one:
        one.tables = tables.write_silos(one.folder, rows=60)
        one.found()
        yield one


@pytest.fixture
def fresh() -> Iterator[Federation]:
    with temporary() as one:
        one.found()
        yield one


def refused(done: Any, code: int, *words: str) -> str:
    """Check how a command failed; returns everything it printed."""
    text = str(done.stderr) + str(done.stdout)
    assert done.returncode == code, text
    assert "Traceback" not in text
    for word in words:
        assert word in text
    return text


def write(path: Path, value: Any) -> Path:
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path


# founding and enrolling


def test_init_twice_keeps_the_first_configuration(standing: Federation) -> None:
    done = run("coordinator", "init", standing.folder / HUB, *standing.wire, check=False)
    refused(done, 2, "exists already", "kept:", "next:")


def test_a_request_whose_fingerprint_differs_is_not_admitted(standing: Federation) -> None:
    request = standing.folder / "north.request"
    wrong = " ".join(["AAAA"] * 8)
    done = standing.command(HUB, "admit", request, "--fingerprint", wrong, check=False)
    refused(done, 2, "another fingerprint", "the roster stays as it is", "ask the silo to read its fingerprint again")


def test_an_admission_whose_root_fingerprint_differs_is_not_pinned(standing: Federation) -> None:
    folder = standing.folder / "late"
    run("silo-agent", "init", folder, "--name", "late", *standing.wire)
    config = folder / "silo-agent.yaml"
    wrong = " ".join(["AAAA"] * 8)
    admission = standing.folder / "north.admission"
    done = run(
        "silo-agent", "enroll", "--admission", admission, "--fingerprint", wrong, "--config", config, check=False
    )
    refused(done, 4, "fingerprint", "next:")
    assert not (folder / "state" / "trust").exists()


def test_a_tampered_request_is_refused(standing: Federation) -> None:
    text = (standing.folder / "north.request").read_text()
    tampered = standing.folder / "tampered.request"
    tampered.write_text(text.replace('"payload"', '"Payload"', 1))
    refused(standing.command(HUB, "admit", tampered, check=False), 4)


def test_a_name_that_cannot_be_a_folder_is_refused(standing: Federation) -> None:
    done = run("silo-agent", "init", standing.folder / "x", "--name", "../etc", *standing.wire, check=False)
    refused(done, 2, "cannot be a name")
    assert not (standing.folder / "x").exists()


# configuration, policy, specification


def test_a_misspelt_key_names_the_nearest_one_and_what_is_not_yaml_its_line(standing: Federation) -> None:
    folder = standing.folder
    config = yaml.safe_load(standing.config("north").read_text())
    bad = write(folder / "north" / "bad.yaml", {**{k: v for k, v in config.items() if k != "policy"}, "polcy": "x"})
    refused(run("silo-agent", "serve", "--config", bad, check=False), 2, "polcy", "did you mean 'policy'")
    bad.write_text("name: [north\n")
    refused(run("silo-agent", "serve", "--config", bad, check=False), 2, "not valid YAML", "line 2")
    refused(run("silo-agent", "serve", "--config", folder / "none.yaml", check=False), 2, "there is no file", "init")


def test_a_misspelt_policy_stops_the_agent_before_it_serves(standing: Federation) -> None:
    policy = standing.folder / "north" / "policy.yaml"
    before = policy.read_text()
    try:
        policy.write_text(before.replace("minimum_rows", "minimum_row"))
        refused(standing.command("north", "serve", check=False), 2, "did you mean 'minimum_rows'")
    finally:
        policy.write_text(before)


SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown protocol": ({"protocol": "silofuze"}, "silofuse"),
    "a misspelt key": ({"trainig": {}}, "did you mean 'training'"),
    "a misspelt parameter": ({"training": {"stepz": 3}}, "stepz"),
    "free text": (
        {"silos": {**tables.spec()["silos"], "north": {"columns": {"notes": {"type": "text"}}}}},
        "leave the column out",
    ),
    "no identifier": ({"identifier": None}, "add `identifier"),
    "one silo": ({"silos": {"north": tables.spec()["silos"]["north"]}, "targets": []}, "at least two silos"),
    "an unknown target": ({"targets": ["nothing"]}, "nothing"),
    "a column in two silos": (
        {"silos": {**tables.spec()["silos"], "south": {"columns": tables.COLUMNS["north"]}}},
        "age",
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_specification_that_cannot_run_is_refused_with_no_service_running(standing: Federation, name: str) -> None:
    changes, words = SPECS[name]
    path = write(standing.folder / "bad-run.yaml", {**tables.spec(), **changes})
    refused(standing.command(HUB, "submit", path, check=False), 2, words)


def test_a_command_for_a_service_that_does_not_run_says_how_to_start_it(standing: Federation) -> None:
    path = write(standing.folder / "run.yaml", tables.spec())
    refused(standing.command(HUB, "submit", path, check=False), 10, "does not answer", "`serve`")
    refused(standing.command("north", "approve", "nothing", check=False), 10, "does not answer")


# data


def spoilt(name: str, table: pd.DataFrame) -> pd.DataFrame:
    if name == "a value out of bounds":
        table.loc[3, "age"] = 987
    elif name == "an unknown category":
        table.loc[[3, 4], "sex"] = "zebra"
    elif name == "no number":
        table["age"] = table["age"].astype(object)
        table.loc[3, "age"] = "zebra"
    elif name == "a missing value":
        table.loc[[3, 4, 5], "sex"] = ""
    elif name == "identifiers twice":
        table.loc[3:4, "person"] = table["person"].iloc[5]
    elif name == "identifiers missing":
        table.loc[[3, 4], "person"] = ""
    elif name == "no such column":
        table = table.drop(columns="sex")
    elif name == "no rows":
        table = table.iloc[:0]
    return table


DATA = {
    "a value out of bounds": ["age", "1"],
    "an unknown category": ["sex", "2"],
    "no number": ["age", "1"],
    "a missing value": ["sex", "3"],
    "identifiers twice": ["person", "3"],
    "identifiers missing": ["person", "2"],
    "no such column": ["sex"],
    "no rows": ["no rows"],
}


@pytest.mark.parametrize("name", DATA)
def test_a_table_that_contradicts_its_schema_is_told_in_counts_and_columns_and_never_in_values(
    standing: Federation, name: str
) -> None:
    table = spoilt(name, pd.read_csv(standing.tables["north"]))
    table.to_csv(standing.folder / "spoilt.csv", index=False)
    config = yaml.safe_load(standing.config("north").read_text())
    bad = write(standing.folder / "north" / "bad.yaml", {**config, "data": str(standing.folder / "spoilt.csv")})
    spec = write(standing.folder / "run.yaml", tables.spec())
    done = run("silo-agent", "check", "--spec", spec, "--config", bad, check=False)
    text = refused(done, 1, *DATA[name])
    (line,) = [line for line in text.splitlines() if line.startswith(" no ")]
    assert line.split()[1] == "data"
    for secret in ("987", "zebra", "P-0"):
        assert secret not in text


def test_a_healthy_silo_passes_every_check(standing: Federation) -> None:
    agreed = tables.spec()
    spec = write(standing.folder / "run.yaml", agreed)
    asked = standing.command("north", "check", "--spec", spec).stdout
    assert " warn  policy" in asked, "who answers every offer by itself answers whatever is asked of its rows"
    declared = {"identifier": agreed["identifier"], "columns": agreed["silos"]["north"]["columns"]}
    standing.allow("north", table=declared)
    text = standing.command("north", "check", "--spec", spec).stdout
    standing.allow("north", table={**declared, "identifier": {"column": "visit"}})
    assert "the identifier otherwise" in standing.command("north", "check", "--spec", spec, check=False).stdout
    standing.allow("north")
    assert [line.split()[1] for line in text.splitlines() if line.startswith(" ok ")] == [
        "configuration", "policy", "home", "keys", "store", "bus", "roster", "data",
    ]  # fmt: skip


def test_a_healthy_coordinator_passes_every_check(standing: Federation) -> None:
    text = standing.command(HUB, "check", "--network").stdout
    assert re.findall(r"(?m)^ ok +(\w+(?: way)?) ", text) == [
        "configuration", "home", "repository", "keys", "store way", "store", "bus way", "bus", "roster",
    ]  # fmt: skip


def test_what_expires_soon_is_a_warning_of_check(fresh: Federation) -> None:
    path = fresh.config(HUB)
    path.write_text(path.read_text().replace("roster_days: 7", "roster_days: 1"))
    fresh.command(HUB, "renew")
    done = fresh.command("east", "check", check=False)
    assert " warn  roster" in done.stdout
    assert "coordinator renew" in done.stdout


# identities, keys, rosters


def test_a_second_agent_with_the_same_identity_is_refused(fresh: Federation) -> None:
    fresh.start("east")
    refused(fresh.command("east", "serve", check=False), 8, "another process is already this party", "kept:")
    assert fresh.processes["east"].poll() is None


def test_a_private_key_that_others_can_read_is_refused(fresh: Federation) -> None:
    (key,) = [path for path in (fresh.folder / "east" / "state" / "keys").iterdir() if "sign" in path.name]
    key.chmod(0o644)
    refused(fresh.command("east", "serve", check=False), 4, "chmod 600")


def test_sigterm_ends_a_service_well_and_a_restart_finds_everything(fresh: Federation) -> None:
    for name in (HUB, "east", "west"):
        fresh.start(name)
    spec = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}
    done = fresh.submit(spec)
    until("the run is done", lambda: all(fresh.phase(name, done) == "done" for name in (HUB, "east", "west")))
    assert {fresh.stop(name) for name in (HUB, "east")} == {0}
    assert fresh.stop("west", signal.SIGINT) == 0
    fresh.start("east")
    assert fresh.phase("east", done) == "done"


def test_a_stranger_and_a_member_who_is_not_one_yet_cannot_be_asked_to_a_run(fresh: Federation) -> None:
    fresh.start(HUB)
    spec = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "nobody": {}}, "rows": 1, "deadline": "5m"}
    path = write(fresh.folder / "run.yaml", spec)
    refused(fresh.command(HUB, "submit", path, check=False), 4, "nobody", "next:")
    with State(fresh.folder / HUB / "state", writer=False) as state:
        assert RunBook(state).all() == []


def test_trust_that_the_store_took_back_is_noticed(fresh: Federation) -> None:
    timestamp = fresh.folder / "store" / "f" / "trust" / "timestamp.json"
    old = timestamp.read_bytes()
    fresh.command(HUB, "renew")
    fresh.start("east")  # which sees the newest
    fresh.stop("east")
    timestamp.write_bytes(old)
    refused(fresh.command("east", "check", check=False), 1, "version", "tell the consortium")


def test_an_expired_roster_stops_new_runs_until_it_is_renewed(fresh: Federation) -> None:
    home = fresh.folder / HUB / "state"
    repository = Repository(home / "repository", "f", lambda: datetime.now(UTC))
    roster = repository.roster
    targets = make_targets(repository.targets.version + 1, roster, datetime.now(UTC) - timedelta(days=1))
    (key,) = present(fresh.folder / HUB / "keyholders")
    repository.publish(Draft.make(repository.root, None, targets, roster_bytes(roster)).sign(key))
    repository.upload(FolderStore(fresh.folder / "store"))
    refused(fresh.command("east", "check", check=False), 1, "the roster has expired", "coordinator renew")

    spec = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}
    for name in (HUB, "east", "west"):
        fresh.start(name, awaited="trust not refreshed")
    path = write(fresh.folder / "run.yaml", spec)
    refused(fresh.command(HUB, "submit", path, check=False), 4, "the roster has expired", "next:")

    fresh.command(HUB, "renew")
    run = fresh.submit(spec)
    until("the run is done", lambda: all(fresh.phase(name, run) == "done" for name in (HUB, "east", "west")))


# what the README says


def commands_of(app: typer.Typer) -> dict[str, set[str]]:
    """Command names and their options."""

    def walk(group: Any, prefix: str) -> Iterator[tuple[str, set[str]]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            if not hasattr(command, "commands") or command.invoke_without_command:
                yield prefix + name, {option for parameter in command.params for option in parameter.opts}

    return dict(walk(get_command(app), ""))


def test_every_command_line_in_the_readme_exists() -> None:
    text = (REPOSITORY / "README.md").read_text()
    lines = re.findall(r"(?m)^(?:# )?((?:silo-agent|coordinator) [a-z].*?)(?:\s+#.*)?$", text)
    lines += re.findall(r"`((?:silo-agent|coordinator) [a-z][^`]*)`", text)
    assert len(lines) > 10
    known = {name: commands_of(app) for name, app in APPS.items()}
    for line in lines:
        program, *words = shlex.split(line)
        command = next((c for c in (" ".join(words[:2]), words[0]) if c in known[program]), None)
        assert command, line
        options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}  # - is a stream
        assert options <= known[program][command], line


def test_the_readme_s_tables_name_every_command_and_no_other() -> None:
    text = (REPOSITORY / "README.md").read_text()
    for program, app in APPS.items():
        table = text.split(f"| {program} | |\n|---|---|\n")[1].split("\n\n")[0]
        cells = " ".join(row.split("|")[1] for row in table.splitlines())
        command = re.compile(r"(?:schema|audit|budget|pool) [a-z]+|[a-z-]+")
        named = {command.match(cell)[0] for cell in re.findall(r"`([^`]+)`", cells)}  # type: ignore[index]
        assert named == set(commands_of(app))


@pytest.mark.parametrize("program", APPS)
def test_every_command_explains_itself(program: str) -> None:
    for command in commands_of(APPS[program]):
        shown = CliRunner().invoke(APPS[program], [*command.split(), "--help"])
        assert shown.exit_code == 0
        assert "Usage:" in shown.output
