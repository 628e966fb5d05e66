"""What the charts take from elsewhere: the schema of their values from the programs' models, alerts from deploy/.

Helm reads nothing outside a chart, so what it needs is committed a second time: `make schema` makes it anew, and a test
holds it to its source. `make charts` packs both charts for whoever installs them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from coordinator.settings import CoordinatorConfig
from deploy.tools.helm import HELM_4, Tool
from silo_agent.policy import Policy
from silo_agent.settings import SiloConfig

ROOT = Path(__file__).parents[2]
HELM = ROOT / "helm"
MONITORING = ROOT / "deploy" / "monitoring"
VOLUME = "/var/lib/silokit/"
_Raw = dict[str, Any]  # as Kubernetes writes it, and for Kubernetes to check


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class _Image(_Values):
    repository: Annotated[str, Field(min_length=1)]
    tag: str
    pull_policy: Literal["Always", "IfNotPresent", "Never"]


class _Volume(_Values):
    existing_claim: str
    size: str
    storage_class: str
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]
    scratch: str


class _Table(_Values):
    """One of the kinds of volumes that a restricted pod may mount, and that may hold a table."""

    persistent_volume_claim: _Raw = {}
    csi: _Raw = {}
    secret: _Raw = {}


class _Secret(_Values):
    existing_secret: str


class _Resources(_Values):
    requests: dict[str, str | int | float]
    limits: dict[str, str | int | float]


class _Job(_Values):
    enabled: bool
    schedule: str
    idle_minutes: Annotated[int, Field(ge=1)]


class _Pod(_Values):
    """What may be said of a pod; what would loosen its hardening is not among it."""

    node_selector: dict[str, str] = {}
    tolerations: list[_Raw] = []
    affinity: _Raw = {}
    topology_spread_constraints: list[_Raw] = []
    runtime_class_name: str = ""
    priority_class_name: str = ""
    service_account_name: str = ""
    image_pull_secrets: list[_Raw] = []
    termination_grace_period_seconds: Annotated[int, Field(ge=10)] = 120


class _User(_Values):
    run_as_user: Annotated[int, Field(ge=1)] | None = None
    run_as_group: Annotated[int, Field(ge=1)] | None = None
    fs_group: Annotated[int, Field(ge=1)] | None = None


class _NetworkPolicy(_Values):
    enabled: bool
    broker: list[_Raw]
    store: list[_Raw]
    scrapers: list[_Raw]
    dns: list[_Raw]
    dns_port: Annotated[int, Field(ge=1, le=65535)]
    extra_egress: list[_Raw]


class _Labelled(_Values):
    enabled: bool
    labels: dict[str, str]


class _PodMonitor(_Labelled):
    interval: str


class _Monitoring(_Values):
    pod_monitor: _PodMonitor
    rules: _Labelled
    dashboards: _Labelled


class _Chart(_Values):
    """The values of either chart."""

    image: _Image
    volume: _Volume
    identity: _Secret
    certificates: _Secret
    env: dict[str, str]
    resources: _Resources
    pod: _Pod
    security_context: _User
    network_policy: _NetworkPolicy
    monitoring: _Monitoring
    # what Helm itself adds
    common: _Raw = {}
    global_: Annotated[_Raw, Field(alias="global")] = {}


class CoordinatorValues(_Chart):
    """The values of helm/coordinator."""

    config: CoordinatorConfig


class SiloValues(_Chart):
    """The values of helm/silo-agent."""

    config: SiloConfig
    policy: Policy
    table: _Table
    job: _Job


CHARTS: Mapping[str, type[_Chart]] = {"silo-agent": SiloValues, "coordinator": CoordinatorValues}


def schema(values: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a chart's values, as both Helms read it."""
    made: dict[str, Any] = _plain(values.model_json_schema())
    known = made["$defs"]
    for config in (known[name] for name in ("SiloConfig", "CoordinatorConfig") if name in known):
        # what lies beside the volume goes with the pod, and whom nobody can ask is taken for dead
        config["properties"]["home"]["pattern"] = config["properties"]["outputs"]["pattern"] = f"^{VOLUME}."
        config["required"].append("monitoring")
    known["MonitoringConfig"]["properties"]["host"]["enum"] = ["0.0.0.0", "::"]  # noqa: S104 - the pod's own
    for part, own, elsewhere in (("StoreConfig", "s3", "folder"), ("BusConfig", "rabbitmq", "sqlite")):
        del known[part]["properties"][elsewhere]
        known[part]["required"] = [own]
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made}


def _plain(node: Any) -> Any:
    """A schema without what Helm has no use for: defaults are in values.yaml, and a null there is no value at all."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in {"properties", "$defs"}:
            found[key] = {name: _plain(item) for name, item in value.items()}
        elif key not in {"title", "default", "format"}:
            found[key] = _plain(value)
    if isinstance(found.get("description"), str):
        found["description"] = found["description"].partition("\n\n")[0]
    if "anyOf" in found:
        found["anyOf"] = [choice for choice in found["anyOf"] if choice != {"type": "null"}]
        if len(found["anyOf"]) == 1:
            found |= found.pop("anyOf")[0]
    return found


def generated() -> dict[Path, str]:
    """Every file below helm/ that is made from something else, with what should be in it."""
    files = {
        HELM / name / "values.schema.json": json.dumps(schema(values), indent=1, ensure_ascii=False) + "\n"
        for name, values in CHARTS.items()
    }
    for source in (MONITORING / "rules.yaml", *(MONITORING / "dashboards").glob("*.json")):
        files[HELM / "common" / "files" / source.relative_to(MONITORING)] = source.read_text(encoding="utf-8")
    return files


def copy(into: Path, helm: Tool) -> Path:
    """Copy all charts, each with what it depends on; returns the folder that holds them.

    Raises:
        ToolError: Helm cannot be fetched, or fails.
    """
    charts = Path(shutil.copytree(HELM, into / "helm"))
    for name in CHARTS:
        helm("dependency", "update", charts / name)
    return charts


def package(into: Path) -> None:
    """Pack both charts as archives that can be installed.

    Raises:
        ToolError: as `copy`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        charts = copy(Path(scratch), HELM_4)
        for name in CHARTS:
            print(HELM_4("package", charts / name, "--destination", into), end="")


def main(words: list[str]) -> None:
    """`schema` makes anew what is made from something else; any other word is a folder to pack the charts into."""
    if words == ["schema"]:
        for path, text in generated().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    else:
        package(Path(*words))


if __name__ == "__main__":
    main(sys.argv[1:])
