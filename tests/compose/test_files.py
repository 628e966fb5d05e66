"""The compose files, as the real Compose reads them: every service is hardened, and silos are kept apart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator.settings import load as load_coordinator
from deploy.compose.project import Compose
from deploy.compose.stage import ComposeStage
from services.certificates import Authority, make_key, request
from services.config import read_config
from silo_agent.policy import Policy
from silo_agent.settings import POLICY_TEXT
from silo_agent.settings import load as load_silo
from tests.monitoring.test_rules import run

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KIT, MINIO, SILO = (DEPLOY / name for name in ("compose.yaml", "compose/minio.yaml", "compose.silo.yaml"))
SILOS = ("admissions", "laboratory", "outcomes")
ONE_SHOT = {"desk", "bucket", "volume"}
FILES = {"kit": (KIT,), "kit with MinIO": (KIT, MINIO), "silo": (SILO,)}


@cache
def read(*files: Path) -> dict[str, Any]:
    """What Compose makes of its files."""
    words = [word for file in files for word in ("-f", str(file))]
    done = subprocess.run(
        [Path(sys.executable).parent / "docker-compose", *words, "--profile", "*", "config", "--format", "json"],
        capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "SILO_DATA": "/srv/extracts"},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    assert not done.stderr, "Compose has nothing to remark"
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


SERVICES = [(files, name) for files, paths in FILES.items() for name in read(*paths)["services"]]


def service(files: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = read(*FILES[files])["services"][name]
    return found


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_a_service_has_no_privilege(files: str, name: str) -> None:
    one = service(files, name)
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices", "cgroup_parent"} & set(one)
    if name == "volume":  # gives MinIO its volume, and can do nothing else
        assert (one["cap_add"], one["network_mode"], one["volumes"][0]["target"]) == (["CHOWN"], "none", "/data")
        return
    uid, _, _gid = one["user"].partition(":")
    assert int(uid) > 0
    assert "cap_add" not in one
    assert one.get("network_mode") in {None, "service:store"}


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_a_service_has_limits(files: str, name: str) -> None:
    one = service(files, name)
    limits = one["deploy"]["resources"]["limits"]
    assert int(limits["memory"]) <= 8 << 30
    assert limits["pids"] <= 1024
    assert "max-size" in one.get("logging", {}).get("options", {}) or name in ONE_SHOT
    assert all("size=" in mount for mount in one.get("tmpfs", []))


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_a_service_says_how_it_is_and_comes_back(files: str, name: str) -> None:
    one = service(files, name)
    if name in ONE_SHOT:
        assert one["restart"] == "no"
        return
    assert one["restart"] == "unless-stopped"
    assert one["healthcheck"]["test"][0] == "CMD"
    assert not any(word.startswith("http") and "localhost" not in word and "-web" not in word
                   for word in one["healthcheck"]["test"])  # fmt: skip


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_an_image_is_a_version(files: str, name: str) -> None:
    _, _, tag = service(files, name)["image"].rpartition(":")
    assert any(letter.isdigit() for letter in tag), "no `latest`, and nothing that moves"


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_secrets_are_files_and_what_is_mounted_is_not_written(files: str, name: str) -> None:
    one = service(files, name)
    for variable in one.get("environment") or {}:
        hints_at_secret = any(hint in variable for hint in ("PASSWORD", "SECRET", "TOKEN", "KEY", "COOKIE"))
        assert not hints_at_secret or variable.endswith("__FILE"), variable
    for mount in one.get("volumes", []):
        assert mount["type"] == "volume" or mount.get("read_only"), mount
        assert "docker.sock" not in mount["source"]


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_ports_are_open_to_this_machine_alone(files: str, name: str) -> None:
    assert all(port["host_ip"] == "127.0.0.1" for port in service(files, name).get("ports", []))


@pytest.mark.parametrize("files", ["kit", "kit with MinIO"])
def test_a_silo_reaches_broker_and_store_and_nobody_else(files: str) -> None:
    whole = read(*FILES[files])
    members: dict[str, set[str]] = {}
    for name, one in whole["services"].items():
        for network in one.get("networks", {}):
            members.setdefault(network, set()).add(name)
    for silo in SILOS:
        assert list(whole["services"][silo]["networks"]) == [silo]
        assert members[silo] == {silo, "broker", "store", "prometheus"}
        assert whole["networks"][silo]["internal"] is True, "no way out to the internet"
    assert members["hub"] == {"coordinator", "desk", "broker", "store", "prometheus"}
    assert whole["networks"]["hub"]["internal"] is True
    assert not members["monitoring"] & {*SILOS, "coordinator", "broker", "store"}


def test_prometheus_is_closed_to_the_silos_that_it_watches() -> None:
    prometheus = service("kit", "prometheus")
    address = next(word for word in prometheus["command"] if word.startswith("--web.listen-address="))
    alias = address.partition("=")[2].partition(":")[0]
    named = {network for network, one in prometheus["networks"].items() if alias in (one or {}).get("aliases", [])}
    assert named == {"monitoring"}


def test_the_keyholder_s_key_is_at_the_desk_alone() -> None:
    holders = {
        name
        for name, one in read(KIT)["services"].items()
        if any(mount["source"] == "keyholders" for mount in one.get("volumes", []))
    }
    assert holders == {"desk"}


@pytest.mark.parametrize("files", ["kit", "kit with MinIO"])
def test_everybody_waits_for_the_servers(files: str) -> None:
    for name in ("coordinator", *SILOS):
        awaited = {server: one["condition"] for server, one in service(files, name)["depends_on"].items()}
        assert awaited == {"broker": "service_healthy", "bucket": "service_completed_successfully"}
    assert service(files, "bucket")["depends_on"]["store"]["condition"] == "service_healthy"


@pytest.mark.parametrize("files", FILES)
def test_every_file_that_the_kit_does_not_make_is_there(files: str) -> None:
    whole = read(*FILES[files])
    named = [one["file"] for kind in ("configs", "secrets") for one in whole.get(kind, {}).values()]
    named += [
        mount["source"]
        for one in whole["services"].values()
        for mount in one.get("volumes", [])
        if mount["type"] == "bind"
    ]
    repository = [Path(path) for path in named if path.startswith(str(DEPLOY)) and not path.endswith("/deploy/silo")]
    assert not [path for path in repository if not path.exists()]
    made_here = {Path(path).relative_to(DEPLOY.parent / "kit").parts[0] for path in named if "/kit/" in path}
    assert made_here <= {"coordinator", *SILOS, "tables", "runs", "provisioned", "secrets"}


def test_the_parties_configurations_hold(tmp_path: Path) -> None:
    coordinator = load_coordinator(DEPLOY / "compose/parties/coordinator.yaml")
    assert coordinator.keyholders == Path("/keyholders")
    for silo in SILOS:
        written = (DEPLOY / "compose/parties/silo-agent.yaml").read_text().replace("{name}", silo)
        (tmp_path / "silo-agent.yaml").write_text(written)
        config = load_silo(tmp_path / "silo-agent.yaml")
        assert (config.name, config.federation) == (silo, coordinator.federation)
        assert (config.store.s3, config.bus.rabbitmq) != (None, None)
        assert config.bus == coordinator.bus
        assert config.store == coordinator.store


def test_the_demo_tells_parties_paths_as_their_containers_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE", sys.executable)
    stage = ComposeStage(Compose(), Path("kit"))
    mounted = {mount["target"]: mount["source"] for mount in service("kit", "coordinator")["volumes"]}
    assert Path(mounted["/runs"]).name == stage.spec.parent.name
    assert stage.told(stage.spec) == f"/runs/{stage.spec.name}"
    outputs = load_coordinator(DEPLOY / "compose/parties/coordinator.yaml").outputs
    assert stage.told(Path("kit/results/outcomes/run-1/joined.csv")) == f"{outputs}/run-1/joined.csv"


def test_a_hospital_begins_with_a_policy_that_allows_nothing() -> None:
    folder = DEPLOY / "compose/silo"
    assert (folder / "policy.yaml").read_text() == POLICY_TEXT
    assert read_config(folder / "policy.yaml", Policy).protocols == ()
    config = load_silo(folder / "silo-agent.yaml")
    assert config.home.is_relative_to("/var/lib/silokit")
    assert str(config.data).startswith("/data/")


def test_the_broker_speaks_mutual_tls_alone() -> None:
    lines = (DEPLOY / "compose/rabbitmq.conf").read_text().splitlines()
    told = dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))
    assert told["listeners.tcp"] == "none"
    for listener in ("ssl_options", "prometheus.ssl"):
        assert told[f"{listener}.verify"] == "verify_peer"
        assert told[f"{listener}.fail_if_no_peer_cert"] == "true"
    assert told["auth_mechanisms.1"] == "EXTERNAL"
    assert told["ssl_options.cacertfile"] != told["prometheus.ssl.cacertfile"]
    mounted = {one["target"] for kind in ("configs", "secrets") for one in service("kit", "broker")[kind]}
    assert {path for path in told.values() if path.startswith("/")} <= mounted


def test_prometheus_scrapes_every_party_and_the_broker() -> None:
    told = yaml.safe_load((DEPLOY / "compose/prometheus.yaml").read_text())
    targets = {target for job in told["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    assert targets == {*(f"{party}:9464" for party in ("coordinator", *SILOS)), "broker:15692", "prometheus-web:9090"}
    mounted = {one["target"] for one in service("kit", "prometheus")["configs"]}
    assert set(told["rule_files"]) <= mounted


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    config, names = (
        (DEPLOY / "compose/prometheus.yaml").read_text(),
        ("authority.crt", "prometheus.crt", "prometheus.key"),
    )
    authority, key = Authority.make("monitoring"), make_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in zip(names, (authority.pem, authority.sign_party(request(key, "p"), "p"), pem), strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "rules.yaml").write_bytes((DEPLOY / "monitoring/rules.yaml").read_bytes())
    (tmp_path / "prometheus.yaml").write_text(re.sub("/etc/prometheus|/run/secrets", str(tmp_path), config))
    run("promtool", "check", "config", tmp_path / "prometheus.yaml")


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    grafana = service("kit", "grafana")
    mounts = {mount["target"]: Path(mount["source"]) for mount in grafana["volumes"]}
    provisioning = mounts["/etc/grafana/provisioning"]
    source, _ = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert (host, port, source["uid"]) == ("prometheus-web", "9090", "prometheus")
    (provider,) = yaml.safe_load((provisioning / "dashboards/silokit.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == folder
    assert (mounts[folder] / home.name).is_file()
