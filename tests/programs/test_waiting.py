"""Services that start before what they need is there, as containers do: they wait, say for what, and go on alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.programs.federation import HUB, Federation, fingerprint, temporary, until

OFTEN = "services.party:RECONCILE_EVERY:number:0.2"


@pytest.fixture
def mounted() -> Iterator[Federation]:
    """A coordinator and a silo of which there is a configuration and a policy, and nothing else."""
    with temporary(silos=("east",)) as one:
        for name in (HUB, "east"):
            (one.folder / name).mkdir()
            config = {
                "federation": "f", "name": "coordinator" if name == HUB else name,
                "store": {"folder": "../mount/store"}, "bus": {"sqlite": "../mount/bus.sqlite"},
            }  # fmt: skip
            one.config(name).write_text(yaml.safe_dump(config))
        one.allow("east")
        yield one


def waits_for(federation: Federation, name: str, reason: str) -> None:
    def said() -> bool:
        return any(reason in event["reason"] for event in federation.events(name, "waits"))

    until(f"{name} waits: {reason}", said)


def test_containers_go_on_by_themselves_from_nothing_to_ready(mounted: Federation) -> None:
    # whatever should be mounted there is not yet: neither store nor bus can be opened
    mount = mounted.folder / "mount"
    mount.write_text("a file in the place of a mount")
    for name in (HUB, "east"):
        mounted.start(name, OFTEN, awaited="waits")
    waits_for(mounted, HUB, "has not founded its federation yet")
    waits_for(mounted, "east", "has no keys yet")

    root = fingerprint(mounted.command(HUB, "found").stdout)
    waits_for(mounted, HUB, "the store folder")
    asked = mounted.command("east", "enroll", "--out", "-")
    assert json.loads(asked.stdout).keys() == {"payload", "payloadType", "signatures"}, "the document and nothing else"
    waits_for(mounted, "east", "has not been admitted")
    again = mounted.command("east", "enroll", "--out", mounted.folder / "again")
    assert fingerprint(asked.stderr) == fingerprint(again.stdout), "a second request is for the same keys"

    admitted = mounted.command(
        HUB, "admit", "-", "--fingerprint", fingerprint(asked.stderr), "--out", "-", given=asked.stdout
    )
    assert fingerprint(admitted.stderr) == root
    mounted.command("east", "enroll", "--admission", "-", "--fingerprint", root, given=admitted.stdout)
    waits_for(mounted, "east", "the store folder")

    mount.unlink()
    for name in (HUB, "east"):
        until(f"{name} is ready", lambda name=name: bool(mounted.events(name, "ready")))  # type: ignore[misc]
        reasons = [event["reason"] for event in mounted.events(name, "waits") if event["task"] == "start"]
        assert len(reasons) == len(set(reasons)), "said once"
        assert mounted.stop(name) == 0


def test_a_service_that_waits_ends_well_when_told_to(mounted: Federation) -> None:
    mounted.start("east", awaited="waits")
    assert mounted.stop("east") == 0
    assert mounted.events("east", "stopped")
    assert not (mounted.folder / "east" / "state" / "state.sqlite").exists()


def test_a_backup_comes_back_beside_a_silo_that_waits_in_an_empty_home(mounted: Federation) -> None:
    asked = fingerprint(mounted.command("east", "enroll", "--out", "-").stderr)
    saved, home = mounted.folder / "east.backup", mounted.folder / "east" / "state"
    mounted.command("east", "backup", "--out", saved)
    shutil.rmtree(home)
    mounted.start("east", OFTEN, awaited="waits")
    waits_for(mounted, "east", "has no keys yet")
    mounted.command("east", "restore", saved)
    waits_for(mounted, "east", "has not been admitted")
    assert fingerprint(mounted.command("east", "enroll", "--out", "-").stderr) == asked


def test_what_is_read_from_a_stream_asks_nobody_there(mounted: Federation) -> None:
    done = mounted.command("east", "enroll", "--admission", "-", check=False, given="{}")
    assert done.returncode == 2
    assert "give --fingerprint" in done.stderr


def test_a_state_that_lost_its_keys_is_given_no_new_ones(mounted: Federation) -> None:
    mounted.command("east", "enroll", "--out", "-")
    home = mounted.folder / "east" / "state"
    (home / "trust").mkdir()
    shutil.rmtree(home / "keys")
    for words in (("enroll", "--out", "-"), ("serve",)):
        done = mounted.command("east", *words, check=False)
        assert done.returncode == 4
        assert "keys" in done.stderr
    assert not (home / "keys").exists()
