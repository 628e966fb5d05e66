"""A support bundle helps whoever helps, holds no secret, row or count of rows, and is shown before it is made."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

import coordinator.cli
import silo_agent.cli
from services import log
from services.audit import AUDIT
from services.chain import Chain
from services.home import RECENT
from services.log import Recent
from services.runs import RunBook
from services.state import State
from services.support import clean

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNER = CliRunner()


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    """A silo's folder: with a table, a run that was refused for what its rows are, and a service's log."""
    table = tmp_path / "table.csv"
    table.write_text("person,age\n" + "".join(f"zebra-{row},{row % 90}\n" for row in range(20_417)))
    folder = tmp_path / "clinic"
    words = ["init", str(folder), "--name", "clinic", "--federation", "f", "--store", str(tmp_path / "store")]
    made = RUNNER.invoke(silo_agent.cli.app, [*words, "--bus", str(tmp_path / "bus.sqlite"), "--data", str(table)])
    assert made.exit_code == 0, made.output
    (folder / "state" / "store.json").write_text('{"access_key": "visible", "secret_key": "hush-hush"}')
    with State(folder / "state") as state:
        spec = json.dumps({"protocol": "echo", "silos": {"clinic": {}}})
        RunBook(state).open("trial-1", spec, "hub", NOW, NOW + timedelta(days=1))
        RunBook(state).move("trial-1", "failed", NOW, "column 'age': 31 of 20417 values lie outside the bounds")
        state.quarantine("f/x/y/z", "the signature does not hold", NOW)
        Chain(state, AUDIT).append("looked at", NOW)
    keep = Recent(folder / "state")
    keep(None, "info", {"event": "run ended", "run": "trial-1", "detail": "31 of 20417 values lie outside"})
    keep(None, "info", {"event": "progress", "done": 5, "loss": 0.73125})
    keep(None, "info", {"event": "sealed", "kind": "align.pseudonyms", "bytes": 653_344})
    keep(None, "info", {"event": "login", "token": "hush-hush"})
    keep(None, "info", {"event": "waits", "reason": "no way to https://me:hush-hush@proxy.example.org/?sig=hush-hush"})
    return folder


def bundle(silo: Path, *words: str, given: str = "") -> tuple[Path, str, int]:
    out = silo / "bundle.zip"
    done = RUNNER.invoke(
        silo_agent.cli.app,
        ["support-bundle", "--out", str(out), "--config", str(silo / "silo-agent.yaml"), *words],
        input=given,
        env={"COLUMNS": "200"},
    )
    return out, done.output, done.exit_code


def test_a_bundle_tells_what_is_going_on_and_no_secret_row_or_count(silo: Path) -> None:
    out, shown, code = bundle(silo, "--yes")
    assert code == 0, shown
    assert out.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(out) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(parts) == {
        "about.json", "configuration.json", "policy.json", "state.json", "log.jsonl", "metrics.txt", "check.txt",
    }  # fmt: skip
    assert all(name in shown for name in parts)
    keys = [json.loads(path.read_text())["private"] for path in (silo / "state" / "keys").glob("*.key")]
    for text in parts.values():
        for secret in ("hush", "zebra", "20417", "653344", "0.73125", *keys):
            assert secret not in text
    assert "silokit" in parts["about.json"]
    assert json.loads(parts["configuration.json"])["name"] == "clinic"
    assert json.loads(parts["policy.json"])["approval"] == "manual"
    state = json.loads(parts["state.json"])
    assert [(run["run"], run["phase"]) for run in state["runs"]] == [("trial-1", "failed")]
    assert [one["name"] for one in state["quarantine"]] == ["the signature does not hold"]
    assert state["chains"] == {"audit": "2 records, whole", "ledger": "0 records, whole"}
    lines = [json.loads(line) for line in parts["log.jsonl"].splitlines()]
    assert [line["event"] for line in lines] == ["run ended", "progress", "sealed", "login", "waits"]
    assert "has not been admitted" in parts["check.txt"]


def test_nothing_is_written_before_somebody_has_looked_and_agreed(silo: Path) -> None:
    out, shown, code = bundle(silo, given="log.jsonl\n\nn\n")
    assert code == 1
    assert '"event": "progress"' in shown
    assert not out.exists()
    assert bundle(silo, given="\ny\n")[2] == 0
    assert out.exists()


def test_a_configuration_that_cannot_be_read_is_told_in_the_bundle(silo: Path) -> None:
    (silo / "silo-agent.yaml").write_text("naem: clinic\npassword: hush-hush\n")
    out, shown, code = bundle(silo, "--yes")
    assert code == 0, shown
    with zipfile.ZipFile(out) as archive:
        assert set(archive.namelist()) == {"about.json", "check.txt"}
        text = archive.read("check.txt").decode()
    assert "did you mean 'name'" in text
    assert "hush" not in text


def test_the_coordinator_has_a_bundle_too(tmp_path: Path) -> None:
    words = [
        "init",
        str(tmp_path / "hub"),
        "--federation",
        "f",
        "--store",
        str(tmp_path / "s"),
        "--bus",
        str(tmp_path / "b"),
    ]
    assert RUNNER.invoke(coordinator.cli.app, words).exit_code == 0
    out = tmp_path / "bundle.zip"
    words = ["support-bundle", "--out", str(out), "--yes", "--config", str(tmp_path / "hub" / "coordinator.yaml")]
    done = RUNNER.invoke(coordinator.cli.app, words)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(out) as archive:
        assert "could not be had: there is no state" in archive.read("state.json").decode()
        assert "targets version 1" in archive.read("check.txt").decode()


SECRETS = {
    "amqps://clinic:hush@broker:5671/f": "amqps://...@broker:5671/f",
    "https://s3.example.org/b/o?X-Amz-Signature=hush&x=1 is away": "https://s3.example.org/b/o?... is away",
    "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\nrest": "...\nrest",
    "secret_key: hush": "secret_key: ...",
    "HTTPS_PROXY=http://me:hush@proxy:3128": "HTTPS_PROXY=http://...@proxy:3128",
    "https://s3.example.org:9000 answers": "https://s3.example.org:9000 answers",
    "a member of the federation": "a member of the federation",
}


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_cut_out(text: str) -> None:
    assert clean(text) == SECRETS[text]


def test_the_last_lines_are_kept_within_bounds_without_an_error_s_words(tmp_path: Path) -> None:
    home = tmp_path / "state"
    keep = Recent(home, limit=10_000)
    for number in range(1000):
        keep(None, "info", {"event": "line", "number": number})
    sizes = [(home / name).stat().st_size for name in RECENT]
    assert max(sizes) <= 10_100
    assert '"number": 999' in "".join((home / name).read_text() for name in RECENT)
    log.configure("json", recent=home)
    try:
        int("zebra-7")
    except ValueError:
        structlog.get_logger().exception("it failed")
    finally:
        structlog.reset_defaults()
    last = json.loads((home / RECENT[0]).read_text().splitlines()[-1])
    assert last["exception"] == "ValueError"
    assert "zebra" not in (home / RECENT[0]).read_text()


def test_a_place_that_takes_no_line_ends_no_service(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    event = {"event": "line"}
    assert Recent(tmp_path / "file" / "state")(None, "info", event) is event
