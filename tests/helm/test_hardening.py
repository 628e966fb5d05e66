"""Every pod of the charts, hooks and tests included, is one that the strictest cluster lets in."""

from __future__ import annotations

from collections import Counter

import pytest

from deploy.tools.helm import ToolError
from tests.helm.charts import CASES, Kitchen, Object, containers, pods

SILO, JOB, FULL = "silo-agent/minimal-values", "silo-agent/job-values", "silo-agent/full-values"
IDENTITY = "silo-agent/identity-values"
NAMESPACED = {
    "ConfigMap", "CronJob", "NetworkPolicy", "PersistentVolumeClaim", "Pod", "PodMonitor", "PrometheusRule", "Service",
    "StatefulSet",
}  # fmt: skip
RESTRICTED_VOLUMES = {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "secret"}
every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_every_pod_is_restricted(kitchen: Kitchen, case: str) -> None:
    found = dict(pods(kitchen.objects(case)))
    assert len(found) == 2  # the party's, and that of `helm test`
    for pod in found.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"].get("runAsUser") != 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", []))


@every_case
def test_no_pod_speaks_to_the_cluster_itself(kitchen: Kitchen, case: str) -> None:
    for pod in dict(pods(kitchen.objects(case))).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


@every_case
def test_every_container_says_what_it_needs(kitchen: Kitchen, case: str) -> None:
    for pod in dict(pods(kitchen.objects(case))).values():
        for container in containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"])
            assert "memory" in resources["limits"]


@every_case
def test_who_installs_needs_no_right_beyond_the_namespace(kitchen: Kitchen, case: str) -> None:
    for found in kitchen.objects(case):
        assert found["kind"] in NAMESPACED
        assert found["metadata"]["namespace"] == "hospital"


@every_case
def test_what_serves_is_asked_for_its_health_and_restarted_only_for_its_own(kitchen: Kitchen, case: str) -> None:
    (agent,) = (pod for name, pod in pods(kitchen.objects(case)) if not name.startswith("Pod"))
    (container,) = agent["containers"]
    assert container["args"][0] == "serve"
    ports = {port["name"] for port in container["ports"]}
    for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert (asked["path"], asked["port"] in ports) == (path, True)


@every_case
def test_nobody_drains_a_node_in_vain(kitchen: Kitchen, case: str) -> None:
    assert all(found["kind"] != "PodDisruptionBudget" for found in kitchen.objects(case))


# one writer


@every_case
def test_one_pod_writes_the_state(kitchen: Kitchen, case: str) -> None:
    objects = kitchen.objects(case)
    kinds = Counter(found["kind"] for found in objects)
    assert kinds["StatefulSet"] + kinds["CronJob"] == 1
    for found in objects:
        if found["kind"] == "StatefulSet":
            assert found["spec"]["replicas"] == 1
        if found["kind"] == "CronJob":
            assert found["spec"]["concurrencyPolicy"] == "Forbid"


def claim(pod: Object) -> str:
    return next(
        str(volume["persistentVolumeClaim"]["claimName"]) for volume in pod["volumes"] if volume["name"] == "state"
    )


def test_a_job_works_on_the_volume_of_the_agent_that_it_replaces(kitchen: Kitchen) -> None:
    served = dict(pods(kitchen.objects(SILO)))["StatefulSet site-silo-agent"]
    worked = dict(pods(kitchen.objects(SILO, "--set", "job.enabled=true")))["CronJob site-silo-agent"]
    assert claim(served) == claim(worked) == "site-silo-agent"
    assert worked["containers"][0]["args"] == ["serve", "--until-idle", "5"]


def test_a_test_of_the_job_holds_no_gpu(kitchen: Kitchen) -> None:
    found = dict(pods(kitchen.objects(JOB)))
    gpu = "nvidia.com/gpu"
    assert found["CronJob site-silo-agent"]["containers"][0]["resources"]["limits"][gpu] == 1
    assert gpu not in found["Pod site-silo-agent-test"]["containers"][0]["resources"]["limits"]


def test_processes_that_share_a_training_have_a_gpu_each_and_memory_in_common(kitchen: Kitchen) -> None:
    case = "coordinator/full-values"
    (agent, _) = dict(pods(kitchen.objects(case))).values()
    (container,) = agent["containers"]
    (shared,) = (mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm")
    assert {"name": shared, "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in agent["volumes"]
    with pytest.raises(ToolError, match=r"config\.processes is 5, and resources\.limits gives nvidia\.com/gpu: 4"):
        kitchen.text(case, "--set", "config.processes=5")


def test_keys_and_ledger_outlive_the_release(kitchen: Kitchen) -> None:
    volume = kitchen.one(SILO, "PersistentVolumeClaim")
    assert volume["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert all(found["kind"] != "PersistentVolumeClaim" for found in kitchen.objects(JOB))  # it names its own
    assert claim(dict(pods(kitchen.objects(JOB)))["CronJob site-silo-agent"]) == "clinic-state"


# what goes in and out


@every_case
def test_what_is_not_named_is_denied_both_ways(kitchen: Kitchen, case: str) -> None:
    objects = kitchen.objects(case)
    policies = [found["spec"] for found in objects if found["kind"] == "NetworkPolicy"]
    if case == IDENTITY:  # which turns it off
        assert policies == []
        return
    for found in objects:
        if found["kind"] in {"StatefulSet", "Pod"}:
            labels = (found["spec"]["template"] if found["kind"] == "StatefulSet" else found)["metadata"]["labels"]
            (policy,) = (one for one in policies if one["podSelector"]["matchLabels"].items() <= labels.items())
            assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
            for rule in policy["egress"]:
                assert rule["to"], "a rule without peers allows all of them"
                assert rule["ports"]
            for rule in policy.get("ingress", []):
                assert rule["from"]
                assert rule["ports"]


def ways(kitchen: Kitchen, case: str, direction: str) -> list[tuple[str, int]]:
    spec = kitchen.one(case, "NetworkPolicy")["spec"]
    peers = "to" if direction == "egress" else "from"
    return [
        (next(iter(peer)), port["port"]) for rule in spec[direction] for peer in rule[peers] for port in rule["ports"]
    ]


def test_an_agent_reaches_resolver_broker_and_store_and_is_reached_for_metrics_alone(kitchen: Kitchen) -> None:
    resolver = [("namespaceSelector", 53)] * 2
    assert ways(kitchen, SILO, "egress") == [*resolver, ("ipBlock", 5671), ("ipBlock", 9000)]
    assert ways(kitchen, SILO, "ingress") == [("podSelector", 9464)]
    broker, store, proxy = [("ipBlock", 5673)] * 2, ("ipBlock", 443), ("ipBlock", 3128)
    assert ways(kitchen, FULL, "egress") == [*resolver, *broker, store, proxy]
    assert ways(kitchen, FULL, "ingress") == [("podSelector", 9500), ("namespaceSelector", 9500)]


# before it serves


def test_an_identity_is_unpacked_before_it_is_checked(kitchen: Kitchen) -> None:
    (restore, check) = dict(pods(kitchen.objects(IDENTITY)))["StatefulSet site-silo-agent"]["initContainers"]
    assert restore["args"] == ["restore", "/identity/backup", "--if-empty"]
    assert {"name": "identity", "mountPath": "/identity", "readOnly": True} in restore["volumeMounts"]
    assert check["args"] == ["check", "--start"]
    (only,) = dict(pods(kitchen.objects(SILO)))["StatefulSet site-silo-agent"]["initContainers"]
    assert only["args"] == ["check", "--start"]


@every_case
def test_a_secret_that_is_missing_is_told_by_the_program_and_not_by_a_pod_that_hangs(
    kitchen: Kitchen, case: str
) -> None:
    for pod in dict(pods(kitchen.objects(case))).values():
        for volume in pod.get("volumes", []):
            if "secret" in volume and volume["name"] != "table":
                assert volume["secret"]["optional"] is True


def test_a_platform_that_chooses_the_user_is_left_to_it(kitchen: Kitchen) -> None:
    for pod in dict(pods(kitchen.objects(IDENTITY))).values():
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["securityContext"])
