"""Backup and restore of real programs: while they serve, killed in the middle, and with a copy that is too old."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

import silo_agent.cli
import silo_agent.settings
from services.artifact import Spend
from services.contract import Message
from services.ledger import Budget
from silo_agent.wiring import build
from tests.programs.federation import HUB, Federation, temporary, until
from tests.spending import DELTA, gaussian

OFTEN = "services.party:RECONCILE_EVERY:number:0.2"
KILLED = -9


@pytest.fixture(scope="module")
def founded() -> Iterator[Federation]:
    with temporary(silos=("east",)) as one:
        one.found()
        yield one


@pytest.fixture
def federation(founded: Federation) -> Iterator[Federation]:
    """A federation whose homes every test leaves as they were, or newer."""
    yield founded
    founded.close()
    for old in founded.folder.glob("*.backup"):
        old.unlink()


def killed(federation: Federation, monkeypatch: pytest.MonkeyPatch, fault: str, *words: object) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FAULT", fault)
        assert federation.command("east", *words, check=False).returncode == KILLED


def spend(federation: Federation) -> None:
    """Have the stopped silo pay for a release, and publish it."""
    budget = Budget(epsilon_per_run=1, epsilon_for_life=3, delta=DELTA)
    federation.allow("east", datasets={"records": budget.model_dump()})
    parts = build(silo_agent.settings.load(federation.config("east")))
    try:
        parts.trust.refresh()
        mechanism = gaussian(8.0).mechanism.model_dump(mode="json")
        release = Spend(mechanism=mechanism, delta=DELTA)
        parts.purse("trial", "train", release)
        made = Message("pool.generator", b"a generator", release)
        parts.courier.publish("trial", "train", made, parts.courier.everybody(), seconds=0, schema_hash="0" * 64)
        parts.courier.deliver()
    finally:
        parts.courier.close()
        parts.state.close()


def test_a_silo_s_backup_survives_kills_and_an_old_one_never_spends_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, saved, newest = (federation.folder / name for name in ("east/state", "old.backup", "new.backup"))
    for name in (HUB, "east"):
        federation.start(name, OFTEN)
    killed(federation, monkeypatch, "services.backup:_Archive._put:before:5", "backup", "--out", saved)
    assert not saved.exists()
    assert "private keys" in federation.command("east", "backup", "--out", saved).stdout
    assert not list(home.glob(".backup-*")), "the killed one's copy is gone"
    refused = federation.command("east", "restore", saved, check=False)
    assert refused.returncode == 8
    assert "its service is running" in refused.stderr
    assert federation.command("east", "restore", saved, "--if-empty").stdout == ""
    federation.stop("east")
    spend(federation)
    assert "2 entries" in federation.command("east", "budget", "verify").stdout
    federation.command("east", "backup", "--out", newest)
    home.rename(federation.folder / "lost")

    for fault in ("services.restore:_keep:after:3", "services.restore:_take_place:before:1"):
        killed(federation, monkeypatch, fault, "restore", saved)
        assert not home.exists()
    federation.command("east", "restore", saved, "--if-empty")
    assert not list(home.parent.glob(".state-restore-*"))
    served = federation.command("east", "serve", check=False)
    assert served.returncode == 8
    for said in ("that east signed and this state does not know", "restore the newest", "nothing was sent, spent"):
        assert said in served.stderr, served.stderr

    shutil.rmtree(home)
    federation.command("east", "restore", newest)
    federation.start("east", OFTEN)
    assert "2 entries" in federation.command("east", "budget", "verify").stdout


def test_a_stream_takes_a_backup_and_nothing_else(federation: Federation) -> None:
    done = CliRunner().invoke(silo_agent.cli.app, ["backup", "--out", "-", "--config", str(federation.config("east"))])
    with tarfile.open(fileobj=BytesIO(done.stdout_bytes)) as archive:
        assert archive.getnames()[-1] == "manifest.json"
    assert "private keys" in done.stderr


def test_a_coordinator_s_backup_founds_nothing_anew_and_an_old_one_is_refused(federation: Federation) -> None:
    home, old, newest = (federation.folder / name for name in ("hub/state", "old.backup", "new.backup"))
    federation.start(HUB, OFTEN)
    federation.command(HUB, "backup", "--out", old)
    federation.command(HUB, "renew")
    federation.command(HUB, "backup", "--out", newest)
    federation.stop(HUB)
    shutil.rmtree(home)
    federation.command(HUB, "restore", old)
    served = federation.command(HUB, "serve", check=False)
    assert served.returncode == 8
    assert "newer snapshot" in served.stderr

    shutil.rmtree(home)
    federation.command(HUB, "restore", newest)
    federation.start(HUB, OFTEN)
    assert not federation.events(HUB, "trust not refreshed")


def test_keys_that_were_drawn_on_a_workstation_move_into_a_volume_by_a_small_archive(tmp_path: Path) -> None:
    wire = ["--federation", "f", "--store", str(tmp_path / "store"), "--bus", str(tmp_path / "bus.sqlite")]

    def silo(folder: str, *words: str) -> str:
        words = (*words, "--config", str(tmp_path / folder / "silo-agent.yaml")) if words[0] != "init" else words
        done = CliRunner().invoke(silo_agent.cli.app, [*words])
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    silo("desk", "init", str(tmp_path / "desk"), "--name", "east", *wire)
    silo("desk", "backup", "--out", str(tmp_path / "east.tar"))
    assert (tmp_path / "east.tar").stat().st_size < 1 << 20, "what a Kubernetes secret may hold"
    shutil.copytree(tmp_path / "desk", tmp_path / "pod", ignore=shutil.ignore_patterns("state"))
    for _ in range(2):  # an init container runs at every start of a pod
        silo("pod", "restore", str(tmp_path / "east.tar"), "--if-empty")
    requests = [json.loads(silo(folder, "enroll", "--out", "-")) for folder in ("desk", "pod")]
    assert requests[0]["signatures"][0]["keyid"] == requests[1]["signatures"][0]["keyid"]


def test_a_service_that_was_told_to_ends_by_itself_when_there_is_nothing_to_do(federation: Federation) -> None:
    federation.start(HUB, OFTEN)
    words = ("serve", "--until-idle", "0.02", "--log-format", "json")
    done = federation.command("east", *words)
    assert '"event": "ready"' in done.stderr
    assert '"event": "nothing to do"' in done.stderr
    recent = federation.folder / "east" / "state" / "recent.log"
    assert recent.stat().st_mode & 0o777 == 0o600
    until("its last lines are kept", lambda: "stopped" in recent.read_text())
