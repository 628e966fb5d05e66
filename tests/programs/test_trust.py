"""Changes of trust as people make them: drafts signed offline, new keys under way, a member that leaves."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.keyring import KeyRing
from tests.programs.commands import run
from tests.programs.federation import HUB, Federation, fingerprint, until

EVERYBODY = (HUB, "east", "west")
OFTEN = "services.party:RECONCILE_EVERY:number:1"  # look for news every second
PUNCTUAL = "services.trust.tuf:SKEW:seconds:0 services.trust.updater:SKEW:seconds:0"
SHORT_LIFE = (
    f"{PUNCTUAL} coordinator.trust.metadata:TIMESTAMP_LIFE:seconds:4 "
    "coordinator.trust.repository:TIMESTAMP_LIFE:seconds:4 coordinator.trust.repository:TIMESTAMP_EVERY:seconds:1"
)
SPEC = {"name": "trial", "protocol": "echo", "silos": {"east": {}, "west": {}}, "rows": 1, "deadline": "5m"}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="silokit-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def federation(folder: Path) -> Iterator[Federation]:
    one = Federation(folder)
    one.found()
    for name in EVERYBODY:
        one.start(name, OFTEN)
    yield one
    one.close()


def finish(federation: Federation, run_name: str) -> None:
    until("the run is done", lambda: all(federation.phase(name, run_name) == "done" for name in EVERYBODY))


def test_two_of_three_keyholders_found_a_federation_and_admit_a_silo(folder: Path) -> None:
    for name in ("anna", "ben", "cleo"):
        run("coordinator", "keyholder", name, "--folder", folder / name)
    publics = [word for name in ("anna", "ben", "cleo") for word in ("--keyholder", folder / name / f"{name}.pub")]
    wire = ("--federation", "f", "--store", folder / "store", "--bus", folder / "bus.sqlite")
    founded = run("coordinator", "init", folder / HUB, *wire, *publics, "--threshold", "2").stdout
    root, draft, config = fingerprint(founded), folder / HUB / "draft-1.json", folder / HUB / "coordinator.yaml"
    assert "2 keyholders must sign" in founded
    assert not (folder / "store" / "f").exists()
    again = run("coordinator", "found", "--config", config, check=False)
    assert again.returncode == 4
    assert "holds a coordinator already" in again.stderr

    def sign(path: Path, name: str) -> str:
        return run("coordinator", "sign", path, "--key", folder / name / f"{name}.key", "--yes").stdout

    assert "1 signatures are lacking" in sign(draft, "anna")
    early = run("coordinator", "publish", draft, "--config", config, check=False)
    assert early.returncode == 4
    assert "1 more keyholders must sign" in early.stderr
    assert fingerprint(sign(draft, "ben")) == root
    assert "Version 1" in run("coordinator", "publish", draft, "--config", config).stdout

    run("silo-agent", "init", folder / "east", "--name", "east", *wire)
    silo = ("--config", folder / "east" / "silo-agent.yaml")
    request, admission = folder / "east.request", folder / "east.admission"
    shown = fingerprint(run("silo-agent", "enroll", "--out", request, *silo).stdout)
    admitted = run(
        "coordinator", "admit", request, "--fingerprint", shown, "--out", admission, "--config", config
    ).stdout
    assert fingerprint(admitted) == root
    run("silo-agent", "enroll", "--admission", admission, "--fingerprint", root, *silo)
    waiting = run("silo-agent", "check", *silo, check=False)
    assert "no east with these keys" in waiting.stdout
    copies = [folder / f"copy-{name}.json" for name in ("ben", "cleo")]
    for copy, name in zip(copies, ("ben", "cleo"), strict=True):  # side by side, each on a copy
        shutil.copy(folder / HUB / "draft-2.json", copy)
        assert "east" in sign(copy, name)
    run("coordinator", "publish", *copies, "--config", config)
    assert "version 2, 2 members" in run("silo-agent", "check", *silo, check=False).stdout
    members = json.loads(run("coordinator", "members", "--json", "--config", config).stdout)
    assert (members["keyholders"], members["threshold"]) == (["anna", "ben", "cleo"], 2)


def test_a_stranger_s_key_signs_no_draft(federation: Federation) -> None:
    keyholders = federation.folder / HUB / "keyholders"
    keyholders.rename(federation.folder / "drawer")
    federation.command(HUB, "renew")
    (draft,) = (federation.folder / HUB).glob("draft-*.json")
    run("coordinator", "keyholder", "mallory", "--folder", federation.folder)
    done = run("coordinator", "sign", draft, "--key", federation.folder / "mallory.key", "--yes", check=False)
    assert done.returncode == 4
    assert "no keyholder's" in done.stderr


def test_a_silo_changes_its_keys_while_a_run_waits_for_another(federation: Federation) -> None:
    federation.stop("west")
    run_name = federation.submit(SPEC)
    until("east has joined", lambda: federation.phase("east", run_name) == "joined")
    request = federation.folder / "east-2.request"
    home = federation.folder / "east" / "state"
    old = KeyRing(home).public
    shown = fingerprint(federation.command("east", "rotate", "--out", request).stdout)
    federation.command(HUB, "admit", request, "--fingerprint", shown, "--out", federation.folder / "east-2.admission")
    until("east signs with its new key", lambda: KeyRing(home).public != old)
    federation.start("west", OFTEN)
    finish(federation, run_name)
    finish(federation, federation.submit(SPEC))


STALE = "nothing fresh lies in the store"


def test_a_partition_longer_than_the_timestamp_stops_acceptance_and_heals_by_itself(
    federation: Federation, figure: Callable[[str], None]
) -> None:
    for name, fault in {HUB: SHORT_LIFE, "east": PUNCTUAL, "west": PUNCTUAL}.items():
        federation.stop(name)
        federation.start(name, f"{OFTEN} {fault}")
    federation.processes["west"].send_signal(signal.SIGSTOP)  # without it the run is not over before the partition
    run_name = federation.submit(SPEC)
    federation.processes[HUB].send_signal(signal.SIGSTOP)  # nobody hears of it, nor it of them
    federation.processes["west"].send_signal(signal.SIGCONT)
    for silo in ("east", "west"):
        until(f"{silo} is stale", lambda silo=silo: STALE in federation.log(silo), 200)  # type: ignore[misc]
    stood = {silo: federation.phase(silo, run_name) for silo in ("east", "west")}
    federation.processes[HUB].send_signal(signal.SIGCONT)
    began = time.monotonic()
    finish(federation, run_name)
    healed = time.monotonic() - began
    figure(f"partition longer than the timestamp: {stood} meanwhile, done {healed:.1f} s after healing")
    assert "done" not in stood.values()


def test_keys_that_no_member_vouches_for_are_not_taken(federation: Federation) -> None:
    thief = federation.folder / "thief"
    run("silo-agent", "init", thief, "--name", "east", *federation.wire)
    request = federation.folder / "thief.request"
    shown = fingerprint(run("silo-agent", "enroll", "--out", request, "--config", thief / "silo-agent.yaml").stdout)
    done = federation.command(HUB, "admit", request, "--fingerprint", shown, check=False)
    assert done.returncode == 4
    assert "is a member already, with other keys" in done.stderr
    assert "rotate" in done.stderr


def test_the_coordinator_changes_its_keys_between_runs(federation: Federation) -> None:
    finish(federation, federation.submit(SPEC))
    home = federation.folder / HUB / "state"
    old = KeyRing(home).public
    federation.command(HUB, "rotate")
    until("the coordinator signs with its new key", lambda: KeyRing(home).public != old)
    finish(federation, federation.submit(SPEC))


def test_a_retired_silo_takes_part_in_nothing_and_may_enrol_anew(federation: Federation) -> None:
    federation.stop("west")
    run_name = federation.submit(SPEC)
    federation.command(HUB, "retire", "west")
    until("the run has failed", lambda: federation.phase("east", run_name) == "failed")
    refused = federation.command(HUB, "submit", federation.folder / "run.yaml", check=False)
    assert refused.returncode == 4
    assert "west is not a member" in refused.stderr
    again = federation.command(HUB, "retire", "west", check=False)
    assert "west is no silo of f" in again.stderr
    request, admission = federation.folder / "west.request", federation.folder / "west.admission"
    shown = fingerprint(federation.command("west", "enroll", "--out", request).stdout)
    root = fingerprint(federation.command(HUB, "admit", request, "--fingerprint", shown, "--out", admission).stdout)
    federation.command("west", "enroll", "--admission", admission, "--fingerprint", root)
    federation.start("west", OFTEN)
    finish(federation, federation.submit(SPEC))
