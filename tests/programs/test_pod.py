"""What the charts rely on: a pod starts while waiting is enough, and ends with a clear word when it is not."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

import coordinator.cli
import silo_agent.cli
from services.state import SCHEMA_VERSION
from tests.programs.federation import HUB, Federation, temporary

APPS = {"coordinator": coordinator.cli.app, "silo-agent": silo_agent.cli.app}
every_program = pytest.mark.parametrize("program", APPS)


@pytest.fixture
def federation() -> Iterator[Federation]:
    with temporary(silos=("east",)) as one:
        one.found()
        yield one


def check(program: str, folder: Path, *words: str, **more: Any) -> Result:
    """`check` of a party that was only just installed: no keys, and neither store nor bus to be found."""
    (folder / "policy.yaml").write_text(more.pop("policy", "protocols: [silofuse]"))
    away = {"store": {"folder": "/proc/none/store"}, "bus": {"sqlite": "/proc/none/bus.sqlite"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"federation": "heart", "name": "clinic", **away, **more}))
    command = ["check", *words, "--config", str(folder / "config.yaml")]
    return CliRunner().invoke(APPS[program], command, env={"COLUMNS": "200"})


def words(done: Result) -> str:
    """What was said, in one line: a narrow terminal breaks lines, and a long folder's name makes any narrow."""
    return " ".join(done.output.split())


@every_program
def test_a_pod_starts_while_servers_are_away_and_is_told_what_it_misses(program: str, tmp_path: Path) -> None:
    done = check(program, tmp_path, "--start")
    assert done.exit_code == 0, done.output
    assert re.search(r"(?m)^ no +keys ", done.output)
    assert re.search(r" - store \S.*it needs what failed above", words(done))
    assert check(program, tmp_path).exit_code == 1


@every_program
def test_a_pod_with_a_wrong_configuration_stops_and_names_the_key(program: str, tmp_path: Path) -> None:
    done = check(program, tmp_path, "--start", devcie="cpu")
    assert done.exit_code == 1
    assert "devcie: unknown key; did you mean 'device'?" in words(done)


def test_a_pod_with_a_wrong_policy_stops_and_names_the_key(tmp_path: Path) -> None:
    done = check("silo-agent", tmp_path, "--start", policy="aproval: manual")
    assert done.exit_code == 1
    assert "aproval: unknown key; did you mean 'approval'?" in words(done)


@every_program
def test_a_pod_with_a_volume_that_it_cannot_write_stops_and_says_as_whom(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.checks.LEAST_DISK", 0)
    done = check(program, tmp_path, "--start", home="/proc/none/state")
    assert done.exit_code == 1
    assert f"/proc cannot be written by user {os.getuid()}" in words(done)


@every_program
def test_a_full_volume_is_told_and_waited_for(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.checks.LEAST_DISK", 1 << 62)
    done = check(program, tmp_path, "--start")
    assert done.exit_code == 0
    assert re.search(r"(?m)^ warn +home ", done.output)
    assert "MiB left: work and sending wait" in words(done)


def test_a_rollback_behind_the_state_is_refused_in_words_and_loses_nothing(federation: Federation) -> None:
    for name in (HUB, "east"):
        federation.start(name)
        federation.stop(name)
        state = federation.folder / name / "state" / "state.sqlite"
        with closing(sqlite3.connect(state)) as db:
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = state.read_bytes()
        done = federation.command(name, "serve", check=False)
        assert done.returncode == 8
        assert f"the state file has version {SCHEMA_VERSION + 1}" in done.stderr
        assert f"knows version {SCHEMA_VERSION}" in done.stderr
        assert "going back would lose entries" in done.stderr
        assert state.read_bytes() == before
