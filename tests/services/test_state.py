"""The state file outlives the program: an older one is brought up to date whole, a newer one is left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chain import AUDIT, Chain
from services.errors import StateError
from services.ledger import Budget, Charge, Ledger
from services.mechanism import Gaussian, Mechanism
from services.state import _VERSIONS, SCHEMA_VERSION, State
from services.versions import program_version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = Path(__file__).parent / "vectors" / "state-v1.sql"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a state file of version 1."""
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as db:
        db.executescript(OLD.read_text())
    return tmp_path


def version(home: Path) -> int:
    with closing(sqlite3.connect(home / "state.sqlite")) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def schema(home: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(home / "state.sqlite")) as db:
        return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_file_of_version_1_keeps_everything_and_gains_a_ledger(home: Path) -> None:
    with State(home) as state:
        assert state.fact("approved:trial-1") is True
        assert state.finished("trial-1", "join")
        assert Chain(state, AUDIT).verify() == 2
        charge = Charge("records", Mechanism(event=Gaussian(noise_multiplier=10)), 1e-5)
        budget = Budget(epsilon_per_run=1, epsilon_for_life=1, delta=1e-5)
        Ledger(state).reserve("trial-1", "train", charge, budget, at=NOW, approver="policy")
    assert version(home) == SCHEMA_VERSION == 4
    with State(home) as state:
        assert Ledger(state).verify() == 1


def test_what_is_asked_many_times_a_second_reads_nothing_that_is_long_done(tmp_path: Path) -> None:
    asked = {
        "unsent": "SELECT * FROM outbox WHERE sent IS NULL ORDER BY sealed, run, sequence",
        "unread": "SELECT * FROM inbox AS i WHERE state IN ('ready', 'handed') AND kind IN ('run.failed')",
    }
    with State(tmp_path) as state:
        for index, query in asked.items():
            assert any(f"INDEX {index}" in row["detail"] for row in state.rows(f"EXPLAIN QUERY PLAN {query}"))


def test_an_old_file_brought_up_to_date_is_like_a_new_one(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    new = tmp_path_factory.mktemp("new")
    for folder in (home, new):
        State(folder).close()
    assert schema(home) == schema(new)


def test_a_migration_that_dies_leaves_the_old_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema(home)
    with monkeypatch.context() as patch:
        patch.setattr(
            "services.state._VERSIONS", ("", "CREATE TABLE charges (run TEXT);\nCREATE TABLE runs (run TEXT)")
        )
        with pytest.raises(sqlite3.OperationalError):
            State(home)
    assert (schema(home), version(home)) == (before, 1)


def test_who_only_reads_an_old_file_is_told_to_start_the_service(home: Path) -> None:
    with pytest.raises(StateError, match="version 1") as caught:
        State(home, writer=False)
    assert "start the service once" in caught.value.fix
    assert version(home) == 1


def test_a_program_that_was_set_back_names_both_versions_and_changes_nothing(home: Path) -> None:
    with pytest.MonkeyPatch.context() as later:
        later.setattr("services.state._VERSIONS", (*_VERSIONS, "CREATE TABLE news (name TEXT)"))
        later.setattr("services.state.SCHEMA_VERSION", SCHEMA_VERSION + 1)
        later.setattr("services.state.program_version", lambda: "9.1.0")
        State(home).close()
    before = schema(home)
    for writer in (True, False):
        with pytest.raises(StateError) as caught:
            State(home, writer=writer)
        told = f"version {SCHEMA_VERSION + 1}, made by silokit 9.1.0; this program, silokit {program_version()}, knows"
        assert told in caught.value.what
        assert "run silokit 9.1.0 again" in caught.value.fix
        assert "changed nothing" in caught.value.kept
    assert (schema(home), version(home)) == (before, SCHEMA_VERSION + 1)


def test_a_file_from_the_future_that_tells_nothing_of_itself_is_refused(home: Path) -> None:
    with closing(sqlite3.connect(home / "state.sqlite")) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StateError, match="version 99, made by a newer program"):
        State(home)
