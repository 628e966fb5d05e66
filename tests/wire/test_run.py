"""Whole runs of real processes over a real broker and a real S3 store, set up with the public commands only."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers.provisioned import Servers
from services.store.diagnosis import AccessDenied
from services.store.s3 import S3Store
from silo_agent.settings import load
from tests.programs.federation import HUB, Federation, until
from tests.wire.fixtures import needing_servers

EVERYBODY = (HUB, "east", "west")
SPEC = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}


class Wired(Federation):
    """A federation on servers of its own, which know what `coordinator provision` wrote and no more."""

    def __init__(self, folder: Path) -> None:
        self.servers = Servers(folder / "servers")
        super().__init__(folder, bus=self.servers.bus, store=self.servers.store)
        self.found()
        self.command(HUB, "provision", folder / "provisioned", "--server", "localhost")


@pytest.fixture(scope="module")
def federation() -> Iterator[Wired]:
    with tempfile.TemporaryDirectory(prefix="silokit-") as folder:
        Path(folder).chmod(0o711)  # the broker runs under an account of its own
        with needing_servers():
            one = Wired(Path(folder))
        try:
            one.servers.start(one.folder / "provisioned")
            for name in EVERYBODY:
                one.start(name)
            yield one
        finally:
            one.close()
            one.servers.close()


def finish(federation: Wired, run: str) -> None:
    until("the run is done", lambda: all(federation.phase(name, run) == "done" for name in EVERYBODY))
    for silo in ("east", "west"):
        chorus = federation.folder / silo / "outputs" / run / "chorus.txt"
        assert chorus.read_text() == "hello from east\nhello from west\n"


def test_a_run_goes_over_the_servers_and_notices_bring_what_listing_would_bring_later(federation: Wired) -> None:
    finish(federation, federation.submit(SPEC))
    heard = [federation.log(name).count('"event": "bus ready"') for name in EVERYBODY]
    assert all(heard)
    assert not (federation.folder / "bus.sqlite").exists()
    assert not (federation.folder / "store").exists()


def test_the_store_is_probed_before_anything_is_sent(federation: Wired) -> None:
    for name in EVERYBODY:
        probed = federation.events(name, "store probed")[0]
        assert (probed["conditional"], probed["foreign_denied"], probed["outside_denied"]) == (True, True, True)
        assert probed["timestamp"] < federation.events(name, "ready")[0]["timestamp"]


def test_check_walks_the_way_to_both_servers(federation: Wired) -> None:
    federation.stop("east")
    text = federation.command("east", "check", check=False).stdout
    found = {tuple(line.split()[:2]) for line in text.splitlines()}
    assert {("ok", "store"), ("ok", "bus"), ("ok", "roster")} <= found
    federation.start("east")


def test_a_silo_s_credentials_are_its_own_and_no_more(federation: Wired) -> None:
    config = load(federation.config("east")).store.s3
    assert config is not None
    store = S3Store(config)
    for key in ("f/west/run-1/forged.body", f"f/{HUB}/run-1/forged.body", "f/roster/0000009999.roster"):
        with pytest.raises(AccessDenied):
            store.put(key, b"forged")
    store.close()


def test_a_broker_that_dies_in_the_middle_delays_a_run_and_no_more(federation: Wired) -> None:
    federation.stop("west")
    run = federation.submit(SPEC)
    until("east has joined", lambda: federation.phase("east", run) == "joined")
    federation.servers.broker.kill9()
    federation.start("west")
    federation.servers.broker.restart()
    finish(federation, run)


def test_a_store_that_dies_in_the_middle_delays_a_run_and_no_more(federation: Wired) -> None:
    federation.stop("west")
    run = federation.submit(SPEC)
    until("east has joined", lambda: federation.phase("east", run) == "joined")
    federation.servers.objects.kill9()
    federation.start("west", awaited="waits")
    federation.servers.objects.restart()
    finish(federation, run)


def test_a_party_that_starts_before_its_broker_waits_for_it(federation: Wired) -> None:
    federation.servers.broker.kill9()
    federation.stop("west", signal.SIGKILL)
    federation.start("west")
    federation.servers.broker.restart()
    finish(federation, federation.submit(SPEC))


def test_provisioning_again_changes_nothing_but_the_server_s_new_key(federation: Wired) -> None:
    files = federation.folder / "provisioned"
    before = {path: path.read_bytes() for path in files.rglob("*.*")}
    federation.command(HUB, "provision", files)
    assert {path: path.read_bytes() for path in files.rglob("*.*")} == before
