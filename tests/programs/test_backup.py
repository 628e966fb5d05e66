"""Backup and restore of real programs: while they serve, killed in the middle, and with a copy that is too old."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import silo_agent.settings
from services.artifact import Spend
from services.contract import Message
from services.ledger import Budget
from silo_agent.wiring import build
from tests.programs.federation import HUB, REPOSITORY, Federation, until
from tests.spending import DELTA, gaussian

OFTEN = "services.party:RECONCILE_EVERY:number:0.2"
KILLED = -9


@pytest.fixture
def federation() -> Iterator[Federation]:
    folder = Path(tempfile.mkdtemp(prefix="silokit-"))
    one = Federation(folder, silos=("east",))
    one.found()
    yield one
    one.close()
    shutil.rmtree(folder)


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
        parts.host._reserve("trial", "train", release)
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
    files = set(federation.folder.iterdir())
    killed(federation, monkeypatch, "services.backup:_Archive._put:before:5", "backup", "--out", saved)
    assert not saved.exists()
    done = federation.command("east", "backup", "--out", saved)
    assert "private keys" in done.stdout
    assert not list(home.glob(".backup-*")), "the killed one's copy is gone"
    for left in set(federation.folder.iterdir()) - files - {saved}:
        assert left.name.startswith(".tmp-"), left
    with (federation.folder / "stream.tar").open("wb") as stream:
        words = ["silo-agent", "backup", "--out", "-", "--config", str(federation.config("east"))]
        subprocess.run(
            [sys.executable, "-m", "tests.programs.launch", *words], cwd=REPOSITORY, stdout=stream, check=True
        )
    with tarfile.open(federation.folder / "stream.tar") as archive:
        assert archive.getnames()[-1] == "manifest.json"

    refused = federation.command("east", "restore", saved, check=False)
    assert refused.returncode == 8
    assert "its service is running" in refused.stderr
    assert federation.command("east", "restore", saved, "--if-empty").stdout == ""
    federation.stop("east")
    spend(federation)
    assert federation.command("east", "budget", "verify").returncode == 0
    federation.command("east", "backup", "--out", newest)
    home.rename(federation.folder / "lost")

    for fault in ("services.restore:_keep:after:3", "services.restore:_take_place:before:1"):
        killed(federation, monkeypatch, fault, "restore", saved)
        assert not home.exists()
    federation.command("east", "restore", saved, "--if-empty")
    assert not list(home.parent.glob(".state-restore-*"))
    served = federation.command("east", "serve", check=False)
    assert served.returncode == 8
    for words in (
        "that east signed and this state does not know",
        "restore the newest backup",
        "nothing was sent, spent",
    ):
        assert words in served.stderr, served.stderr

    shutil.rmtree(home)
    federation.command("east", "restore", newest)
    federation.start("east", OFTEN)
    assert "2 entries" in federation.command("east", "budget", "verify").stdout


def test_a_coordinator_s_backup_founds_nothing_anew_and_an_old_one_is_refused(federation: Federation) -> None:
    home, old, newest = (federation.folder / name for name in ("hub/state", "old.backup", "new.backup"))
    federation.start(HUB, OFTEN)
    federation.command(HUB, "backup", "--out", old)
    federation.command(HUB, "renew")
    federation.command(HUB, "backup", "--out", newest)
    for saved, refused in ((newest, False), (old, True)):
        federation.stop(HUB)
        shutil.rmtree(home)
        federation.command(HUB, "restore", saved)
        if refused:
            served = federation.command(HUB, "serve", check=False)
            assert served.returncode == 8
            assert "newer snapshot" in served.stderr
        else:
            federation.start(HUB, OFTEN)
            before = len(federation.events(HUB, "trust not refreshed"))
            federation.start("east", OFTEN)
            assert len(federation.events(HUB, "trust not refreshed")) == before


def test_a_service_that_was_told_to_ends_by_itself_when_there_is_nothing_to_do(federation: Federation) -> None:
    federation.start(HUB, OFTEN)
    words = ("serve", "--until-idle", "0.02", "--log-format", "json")
    done = federation.command("east", *words)
    assert '"event": "ready"' in done.stderr
    assert '"event": "nothing to do"' in done.stderr
    recent = federation.folder / "east" / "state" / "recent.log"
    assert recent.stat().st_mode & 0o777 == 0o600
    until("its last lines are kept", lambda: "stopped" in recent.read_text())
