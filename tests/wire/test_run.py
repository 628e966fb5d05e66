"""Whole runs of real processes over a real broker, set up with the public commands and nothing else."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers.rabbitmq import RabbitServer
from tests.programs.federation import HUB, Federation, until
from tests.wire.fixtures import start_or_skip

EVERYBODY = (HUB, "east", "west")
SPEC = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}


class Wired(Federation):
    """A federation on a broker of its own, which knows what `coordinator provision` wrote and no more."""

    def __init__(self, folder: Path) -> None:
        certificates: dict[str, bytes] = {}
        definitions: dict[str, object] = {}
        self.server = RabbitServer(folder / "broker", certificates, definitions)
        super().__init__(folder, bus=f"amqps://localhost:{self.server.port}")
        self.found()
        files = folder / "provisioned"
        self.command(HUB, "provision", files, "--server", "localhost")
        certificates["ca.crt"] = (files / "authority.crt").read_bytes()
        certificates |= {name: (files / name).read_bytes() for name in ("server.crt", "server.key")}
        definitions |= json.loads((files / "rabbitmq-definitions.json").read_bytes())


@pytest.fixture(scope="module")
def federation() -> Iterator[Wired]:
    with tempfile.TemporaryDirectory(prefix="silokit-") as folder:
        Path(folder).chmod(0o711)  # the broker runs under an account of its own
        one = Wired(Path(folder))
        try:
            start_or_skip(one.server)
            for name in EVERYBODY:
                one.start(name)
            yield one
        finally:
            one.close()
            one.server.close()


def finish(federation: Wired, run: str) -> None:
    until("the run is done", lambda: all(federation.phase(name, run) == "done" for name in EVERYBODY))
    for silo in ("east", "west"):
        chorus = federation.folder / silo / "outputs" / run / "chorus.txt"
        assert chorus.read_text() == "hello from east\nhello from west\n"


def test_a_run_goes_over_the_broker_and_notices_bring_what_listing_would_bring_later(federation: Wired) -> None:
    finish(federation, federation.submit(SPEC))
    heard = [federation.log(name).count('"event": "bus ready"') for name in EVERYBODY]
    assert all(heard)
    assert not (federation.folder / "bus.sqlite").exists()


def test_check_walks_the_way_to_the_broker(federation: Wired) -> None:
    federation.stop("east")
    text = federation.command("east", "check", check=False).stdout
    assert any(line.split()[:2] == ["ok", "bus"] for line in text.splitlines())
    federation.start("east")


def test_a_broker_that_dies_in_the_middle_delays_a_run_and_no_more(federation: Wired) -> None:
    federation.stop("west")
    run = federation.submit(SPEC)
    until("east has joined", lambda: federation.phase("east", run) == "joined")
    federation.server.kill9()
    federation.start("west")
    federation.server.restart()
    finish(federation, run)


def test_a_party_that_starts_before_its_broker_waits_for_it(federation: Wired) -> None:
    federation.server.kill9()
    federation.stop("west", signal.SIGKILL)
    federation.start("west")
    federation.server.restart()
    finish(federation, federation.submit(SPEC))


def test_provisioning_again_changes_nothing_but_the_server_s_new_key(federation: Wired) -> None:
    files = federation.folder / "provisioned"
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    federation.command(HUB, "provision", files)
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before
