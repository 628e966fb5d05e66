"""What both charts promise whoever installs them, looked at in what the real Helms render."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions
from packaging.version import Version
from typer.main import get_command

import coordinator.cli
import silo_agent.cli
from coordinator.settings import CoordinatorConfig
from deploy.tools.charts import CHARTS, HELM, MONITORING, ROOT, generated, package
from deploy.tools.helm import HELM_4, ToolError
from services.config import read_config
from silo_agent.policy import Policy
from silo_agent.settings import SiloConfig
from tests.helm.charts import CASES, HELMS, Kitchen, Object, containers, pods

APPS = {"coordinator": coordinator.cli.app, "silo-agent": silo_agent.cli.app}
SILO, HUB = "silo-agent/minimal-values", "coordinator/minimal-values"
NEWEST = [str(version) for version in sorted(set(map(Version, all_versions())))[-2:]]
OPERATOR = {"PodMonitor", "PrometheusRule"}  # of the Prometheus operator, whose schemas Kubernetes does not know
every_case = pytest.mark.parametrize("case", CASES)
either_helm = pytest.mark.parametrize("helm", HELMS)


# what Helm and Kubernetes say


@every_case
@either_helm
def test_helm_finds_nothing_to_complain_of(kitchen: Kitchen, case: str, helm: str) -> None:
    chart, values = kitchen.files(case, helm)
    assert "0 chart(s) failed" in HELMS[helm]("lint", "--strict", chart, "--values", values)


@every_case
def test_both_helms_render_the_same(kitchen: Kitchen, case: str) -> None:
    first, second = (kitchen.text(case, helm=helm) for helm in HELMS)
    assert first == second


@every_case
def test_kubernetes_knows_every_field(kitchen: Kitchen, case: str) -> None:
    for found in kitchen.objects(case):
        for version in NEWEST:
            if found["kind"] not in OPERATOR:
                assert kubernetes_validate.validate(found, version, strict=True) in version


def test_a_field_that_kubernetes_does_not_know_is_found(kitchen: Kitchen) -> None:
    found = kitchen.one(SILO, "StatefulSet")
    found["spec"]["template"]["spec"]["restartPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolcy"):
        kubernetes_validate.validate(found, NEWEST[-1], strict=True)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_packed_chart_needs_nothing_else(chart: str, kitchen: Kitchen, tmp_path: Path) -> None:
    package(tmp_path)
    (archive,) = tmp_path.glob(f"{chart}-*.tgz")
    case = f"{chart}/full-values"
    _, values = kitchen.files(case, "helm 4")
    assert HELM_4("template", "site", archive, "--namespace", "hospital", "--values", values) == kitchen.text(case)


# what people write


WRONG = {
    "a misspelt key of the configuration": (SILO, 'config.bus.rabbitmq.hots="x"', "hots"),
    "a key that no chart has": (SILO, "resorces.limits.cpu=1", "resorces"),
    "no name": (SILO, "config.name=null", "name"),
    "a bucket that can be none": (SILO, 'config.store.s3.bucket="UPPER"', "bucket"),
    "a port out of range": (SILO, "config.bus.rabbitmq.port=70000", "port"),
    "a word for a number": (SILO, 'policy.minimum_rows="many"', "minimum_rows"),
    "an approval that is none": (SILO, 'policy.approval="perhaps"', "approval"),
    "a budget without δ": (SILO, 'policy.datasets={"records": {"epsilon_per_run": 1}}', "delta"),
    "a home that goes with the pod": (SILO, 'config.home="/tmp/state"', "home"),
    "health that only the pod itself can ask": (SILO, 'config.monitoring.host="127.0.0.1"', "host"),
    "a folder as store": (SILO, 'config.store.folder="/srv/store"', "folder"),
    "a table on the node's own disk": (SILO, 'table.hostPath={"path": "/srv"}', "hostPath"),
    "a loosened pod": (SILO, "pod.hostNetwork=true", "hostNetwork"),
    "root": (SILO, "securityContext.runAsUser=0", "runAsUser"),
    "no way to the broker": (SILO, "networkPolicy.broker=[]", "networkPolicy.broker"),
    "a policy for the coordinator": (HUB, 'policy.approval="manual"', "policy"),
    "a roster for no day": (HUB, "config.roster_days=0", "roster_days"),
}


@pytest.mark.parametrize("name", WRONG)
@either_helm
def test_a_wrong_value_is_an_error_that_names_its_key(kitchen: Kitchen, name: str, helm: str) -> None:
    case, value, key = WRONG[name]
    with pytest.raises(ToolError, match=rf"\b{re.escape(key)}\b"):
        kitchen.text(case, "--set-json", value, helm=helm)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_without_values_says_what_it_needs(kitchen: Kitchen, chart: str) -> None:
    with pytest.raises(ToolError) as caught:
        HELM_4("template", kitchen.folders["helm 4"] / chart)
    for key in ("federation", "name", "endpoint", "bucket", "host"):
        assert f"'{key}'" in caught.value.what


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_is_described(chart: str) -> None:
    lines = (HELM / chart / "values.yaml").read_text().splitlines()
    assert len(lines) < 150
    for number, line in enumerate(lines):
        if re.match(r" *\w+:", line):
            assert "#" in line or lines[number - 1].startswith("#"), line


def test_each_chart_is_small() -> None:
    for chart in CHARTS:
        assert len([path for path in (HELM / chart / "templates").rglob("*") if path.is_file()]) <= 10


# what the programs are told


def written(kitchen: Kitchen, case: str, into: Path, *more: str) -> Path:
    """The files of a case's ConfigMap."""
    for name, text in kitchen.one(case, "ConfigMap", *more)["data"].items():
        (into / name).write_text(text)
    return into


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("silo-agent")])
def test_the_silo_reads_its_configuration_and_policy(kitchen: Kitchen, case: str, tmp_path: Path) -> None:
    given: Object = yaml.safe_load(kitchen.files(case, "helm 4")[1].read_text())
    folder = written(kitchen, case, tmp_path)
    config = read_config(folder / "silo-agent.yaml", SiloConfig)
    assert config.name == given["config"]["name"]
    assert config.store.s3 is not None
    assert config.store.s3.endpoint == given["config"]["store"]["s3"]["endpoint"]
    assert config.located(Path("/etc/silokit")).home.is_relative_to("/var/lib/silokit")
    policy = read_config(folder / "policy.yaml", Policy)
    assert policy == Policy.model_validate({"approval": "manual"} | given.get("policy", {}))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("coordinator")])
def test_the_coordinator_reads_its_configuration(kitchen: Kitchen, case: str, tmp_path: Path) -> None:
    config = read_config(written(kitchen, case, tmp_path) / "coordinator.yaml", CoordinatorConfig)
    assert config.federation == "heart"
    assert config.monitoring is not None


def parse(program: str, words: list[str]) -> None:
    """Read a command line as its program does; one that it does not understand raises."""
    group: Any = get_command(APPS[program])
    name, *options = words
    group.commands[name].make_context(name, options)


@every_case
def test_every_container_runs_a_command_line_that_its_program_has(kitchen: Kitchen, case: str) -> None:
    for pod in dict(pods(kitchen.objects(case))).values():
        for container in containers(pod):
            if "command" not in container:  # the image's own: the program
                parse(case.partition("/")[0], container["args"])


def test_a_null_takes_a_default_away(kitchen: Kitchen, tmp_path: Path) -> None:
    folder = written(kitchen, "silo-agent/full-values", tmp_path)
    store = read_config(folder / "silo-agent.yaml", SiloConfig).store.s3
    assert store is not None
    assert store.ca is None


def test_a_protocol_of_tomorrow_needs_no_other_chart(kitchen: Kitchen, tmp_path: Path) -> None:
    sentence = 'sums of columns: "not" anonymous, # not private'
    policy = {"protocols": ["tomorrow"], "unprotected": {"tomorrow.sums": sentence}}
    folder = written(kitchen, SILO, tmp_path, "--set-json", f"policy={json.dumps(policy)}")
    found = read_config(folder / "policy.yaml", Policy)
    found.check_run("tomorrow", {"tomorrow.sums": sentence})


def marks(kitchen: Kitchen, *more: str) -> Any:
    return kitchen.one(SILO, "StatefulSet", *more)["spec"]["template"]["metadata"]["annotations"]


def test_a_new_configuration_starts_the_agent_anew_and_a_new_policy_does_not(kitchen: Kitchen) -> None:
    before = marks(kitchen)
    assert marks(kitchen, "--set", "policy.approval=automatic") == before
    assert marks(kitchen, "--set", "config.device=cpu") != before


# what is committed a second time


def test_what_is_made_from_something_else_is_current() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"run `make schema`: {path} is not current"
    copies = {path for path in (HELM / "common" / "files").rglob("*") if path.suffix in {".yaml", ".json"}}
    assert copies <= set(generated()), "run `make schema` and remove what has no source any more"


@pytest.mark.parametrize("case", ["silo-agent/full-values", "coordinator/full-values"])
def test_alerts_and_dashboards_arrive_as_they_were_written(kitchen: Kitchen, case: str) -> None:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    assert kitchen.one(case, "PrometheusRule")["spec"] == rules
    maps = [found for found in kitchen.objects(case) if "dashboard" in found["metadata"]["name"]]
    shown = {name: text for found in maps for name, text in found["data"].items()}
    sources = (MONITORING / "dashboards").glob("*.json")
    assert {f"silokit-{path.name}": json.loads(path.read_text()) for path in sources} == {
        name: json.loads(text) for name, text in shown.items()
    }


def test_what_the_operator_is_told_is_what_it_knows(kitchen: Kitchen) -> None:
    monitor = kitchen.one("silo-agent/full-values", "PodMonitor")
    agent = kitchen.one("silo-agent/full-values", "StatefulSet")["spec"]["template"]
    (port,) = agent["spec"]["containers"][0]["ports"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"] == {
        "selector": {"matchLabels": agent["metadata"]["labels"]},
        "podMetricsEndpoints": [{"port": port["name"], "path": "/metrics", "interval": "30s"}],
    }


# what people are shown


def commands(kitchen: Kitchen, case: str) -> list[str]:
    """The commands in what Helm prints after an installation; only Helm 4 shows that without a cluster."""
    chart, values = kitchen.files(case, "helm 4")
    said = HELM_4("install", "site", chart, "--namespace", "hospital", "--values", values, "--dry-run=client")
    return [line.strip() for line in said.partition("NOTES:")[2].splitlines() if line.startswith("  ")]


def parse_shown(lines: list[str]) -> None:
    """Read what people are to run in a pod, redirections and comments apart."""
    for line in lines:
        if found := re.search(r"kubectl exec .* -- (.*?)(?: [<>] .*|\s+#.*)?$", line):
            program, *words = shlex.split(found[1])
            if program in APPS:
                parse(program, words)


@every_case
def test_what_an_installation_shows_are_command_lines_that_exist(kitchen: Kitchen, case: str) -> None:
    parse_shown(commands(kitchen, case))


def test_what_the_readme_says_can_be_run_word_for_word(kitchen: Kitchen, tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text().partition("## Install on Kubernetes")[2].partition("\n## ")[0]
    parse_shown([*page.splitlines(), *(HELM / "README.md").read_text().splitlines()])
    values = tmp_path / "clinic.yaml"
    values.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    rendered = HELM_4("template", "clinic", kitchen.folders["helm 4"] / "silo-agent", "--values", values)
    names = {found["metadata"]["name"] for found in yaml.safe_load_all(rendered)}
    assert "kubectl exec -n heart clinic-silo-agent-0 -- silo-agent enroll" in page
    assert "clinic-silo-agent" in names


def test_a_hospital_is_told_the_two_commands_after_which_its_agent_is_a_member(kitchen: Kitchen) -> None:
    execute, pod = "kubectl exec -n hospital", "site-silo-agent-0 -- silo-agent enroll"
    assert commands(kitchen, SILO) == [
        f"{execute} {pod} --out - > enrolment-clinic.json",
        f'{execute.replace("exec", "exec -i")} {pod} --admission - --fingerprint "XXXX ..." < admission-clinic.json',
        "helm test site -n hospital --logs",
    ]


def test_a_coordinator_is_told_how_its_federation_begins(kitchen: Kitchen) -> None:
    found, admit, _ = commands(kitchen, HUB)
    assert found.startswith("kubectl exec -n hospital site-coordinator-0 -- coordinator found --keyholder")
    assert "coordinator admit - --fingerprint" in admit


def test_who_brings_an_identity_is_told_to_enrol_nothing(kitchen: Kitchen) -> None:
    assert commands(kitchen, "silo-agent/identity-values") == ["helm test site -n hospital --logs"]
