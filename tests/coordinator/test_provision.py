"""What is written for broker and store: everybody's rights, nobody's twice, none for who left, secrets in private."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator import roster
from coordinator.provision import provision
from coordinator.settings import CoordinatorConfig
from coordinator.trust import keyholders
from services.enrolment import STORE_CREDENTIALS
from services.keyring import KeyRing
from services.store.credentials import read_credentials
from services.store.s3 import S3Config
from services.wiring import BusConfig, StoreConfig
from silo_agent import enrolment
from silo_agent.settings import SiloConfig

FED, BUCKET = "heart", "artifacts"


class Consortium:
    """A coordinator whose store nobody has started yet, and a silo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hub = folder / "hub"
        s3 = S3Config(endpoint="http://127.0.0.1:1", bucket=BUCKET, credentials=hub / STORE_CREDENTIALS, insecure=True)
        self.wire: dict[str, Any] = {"store": StoreConfig(s3=s3), "bus": BusConfig(sqlite=folder / "bus.sqlite")}
        holders = folder / "keyholders"
        self.config = CoordinatorConfig(federation=FED, name="hub", home=hub, keyholders=holders, **self.wire)
        holder = keyholders.make("holder", holders)
        roster.found(self.config, {holder.name: holder.verify}, 1)
        self.admit("north")

    def admit(self, name: str) -> None:
        home = self.folder / name
        config = SiloConfig(federation=FED, name=name, home=home, policy=self.folder / "policy.yaml", **self.wire)
        KeyRing.create(home, name)
        enrolment.request(config, home / "request")
        roster.admit(self.config, *roster.read_enrolment(self.config, home / "request"), home / "admission")
        enrolment.admit(config, home / "admission", roster.fingerprint(self.config))

    def provision(self) -> dict[str, Any]:
        """Every file, by its name."""
        paths = provision(self.config, self.folder / "files", ())
        return {path.name: json.loads(path.read_bytes()) for path in paths if path.suffix == ".json"}

    def keys(self) -> dict[str, str]:
        """What the store is told: everybody's secret by access key."""
        identities = self.provision()["seaweedfs-identities.json"]["identities"]
        found = [credentials for one in identities for credentials in one["credentials"]]
        return {one["accessKey"]: one["secretKey"] for one in found}


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


def test_the_store_is_told_what_each_party_holds(consortium: Consortium) -> None:
    held = [read_credentials(consortium.folder / name / STORE_CREDENTIALS) for name in ("hub", "north")]
    assert consortium.keys() == {one.access_key: one.secret_key for one in held}


def test_only_the_operator_reads_the_secrets(consortium: Consortium) -> None:
    consortium.provision()
    files = [path for path in (consortium.folder / "files").rglob("*") if path.is_file()]
    secret = read_credentials(consortium.folder / "north" / STORE_CREDENTIALS).secret_key.encode()
    holding = {path.name for path in files if secret in path.read_bytes()}
    assert holding == {"seaweedfs-identities.json"} == {path.name for path in files if not path.stat().st_mode & 0o077}


def test_provisioning_again_writes_the_same_bytes_and_a_new_member_touches_nobody_else_s(
    consortium: Consortium,
) -> None:
    before = consortium.provision()
    assert consortium.provision() == before
    keys = consortium.keys()
    consortium.admit("south")
    after = consortium.provision()
    assert keys.items() < consortium.keys().items()
    assert after["north.json"] == before["north.json"]
    assert set(after) - set(before) == {"south.json"}


def test_who_left_keeps_no_right(consortium: Consortium) -> None:
    consortium.admit("gone")
    roster.retire(consortium.config, "gone")
    files = consortium.provision()
    assert "gone" not in {one["name"] for one in files["seaweedfs-identities.json"]["identities"]}
    assert [one["Effect"] for one in files["gone.json"]["Statement"]] == ["Deny"]
    rights = {one["user"]: one for one in files["rabbitmq-definitions.json"]["permissions"]}
    assert {rights["gone"][right] for right in ("configure", "write", "read")} == {"^$"}
    assert rights["north"]["write"] != "^$"
