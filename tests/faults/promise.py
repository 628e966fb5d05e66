"""What must hold of a run's traces on everybody's disk, whoever was killed and whenever."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.audit import verify_audit
from services.files import TEMPORARY
from services.seal import read_manifest
from services.state import State
from tests.world import FEDERATION, HUB


@dataclass(frozen=True)
class Promise:
    """What a run of one protocol leaves at everybody.

    Args:
        steps: the names of the finished steps, by party.
        kinds: the kinds of what was sent, sorted, by party.
        result: the name of the silos' result.
    """

    steps: Mapping[str, set[str]]
    kinds: Mapping[str, list[str]]
    result: str

    def check(self, folder: Path) -> None:
        """The one run is done at everybody, nothing is lost, nothing is there twice, nothing private is left.

        Raises:
            AssertionError: it is not so.
        """
        for name in self.steps:
            self._check_party(folder, name)
        with closing(sqlite3.connect(folder / "bus.sqlite")) as bus:
            assert bus.execute("SELECT * FROM notices").fetchall() == [], "a notice was never acknowledged"

    def results(self, folder: Path) -> dict[str, bytes]:
        """Every silo's result."""
        found = {name: list(folder.glob(f"{name}/outputs/*/{self.result}")) for name in self.steps if name != HUB}
        return {name: path.read_bytes() for name, (path,) in found.items()}

    def _check_party(self, folder: Path, name: str) -> None:
        home = folder / name / "state"
        with State(home, writer=False) as state:
            (run,) = state.rows("SELECT * FROM runs")
            assert run["phase"] == "done", (name, run["phase"], run["detail"])
            steps = {row["step"]: datetime.fromisoformat(row["finished"]) for row in state.rows("SELECT * FROM steps")}
            assert steps.keys() == self.steps[name]
            _check_nothing_was_computed_again(folder / f"{name}.log", steps)
            _check_sent(state, folder / "store" / FEDERATION / name / run["run"], self.kinds[name])
            assert state.rows("SELECT * FROM inbox WHERE state IN ('ready', 'refused')") == []
            assert state.rows("SELECT * FROM quarantine") == []
        verify_audit(home)
        left = [path for place in ("runs", "late", "outbox") for path in (home / place).glob("*")]
        half = [
            path for path in (folder / name).rglob("*") if path.name.startswith(TEMPORARY) or path.suffix == ".part"
        ]
        half += [*home.glob("*.incoming"), *home.glob("trust/metadata/tmp*")]
        assert [*left, *half] == [], "something is left behind"


def _check_nothing_was_computed_again(log: Path, finished: dict[str, datetime]) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    begun = [line for line in lines if line["event"] == "work"]
    late = [line["step"] for line in begun if datetime.fromisoformat(line["timestamp"]) > finished[line["step"]]]
    assert not late, f"computed again although finished: {late}"


def _check_sent(state: State, published: Path, kinds: list[str]) -> None:
    outbox = state.rows("SELECT * FROM outbox ORDER BY sequence")
    assert sorted(row["kind"] for row in outbox) == kinds
    assert all(row["sent"] for row in outbox)
    claims = [read_manifest(row["manifest"]) for row in outbox]
    assert [claim.header.sequence for claim in claims] == list(range(1, len(claims) + 1))
    assert [claim.header.previous for claim in claims] == [None, *(claim.digest for claim in claims[:-1])]
    wanted = {f"{claim.digest}.manifest" for claim in claims} | {f"{claim.body_sha256}.body" for claim in claims}
    found = {path.name for path in published.iterdir() if not path.name.startswith(TEMPORARY)}
    assert found == wanted, "the store and the outbox differ"
