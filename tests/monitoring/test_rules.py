"""The alerts: well-formed, fired by what should fire them and by nothing else, each with a section in the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

import coordinator.cli
import silo_agent.cli
from deploy.monitoring.boards import BOARDS
from deploy.servers import ServerMissing
from services.metrics import CATALOGUE
from tests.monitoring.watched import EXAMPLE
from tests.wire.fixtures import needing_servers

MONITORING = EXAMPLE.parent
UNIT_TESTS = Path(__file__).parent / "rules.test.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES]
RUNBOOK = (MONITORING / "RUNBOOK.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
APPS = {"coordinator": coordinator.cli.app, "silo-agent": silo_agent.cli.app}


def run(program: str, *words: object) -> None:
    """Run one of Prometheus's tools; it must agree."""
    with needing_servers():
        if shutil.which(program) is None:
            raise ServerMissing(f"there is no {program} here", fix="`make servers` (Debian, as root) installs it")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_well_formed() -> None:
    run("promtool", "check", "rules", MONITORING / "rules.yaml")
    assert len(set(ALERTS)) == len(ALERTS) >= 10


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    run("promtool", "test", "rules", UNIT_TESTS)


def test_every_alert_has_a_moment_at_which_it_fires_one_at_which_it_does_not_and_series_that_never_do() -> None:
    tested = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    assert sorted(one["name"] for one in tested) == sorted(ALERTS)
    for one in tested:
        firing = [moment["exp_alerts"] for moment in one["alert_rule_test"] if moment["alertname"] == one["name"]]
        assert [] in firing, one["name"]
        assert any(firing), one["name"]
        text = str(one["input_series"])
        assert "bad" in text, one["name"]
        assert "good" in text, one["name"]
        assert not [alert for alerts in firing for alert in alerts if "bad" not in str(alert["exp_labels"].values())]


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    assert list(SECTIONS) == ALERTS
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize("alert", ALERTS)
def test_a_section_says_what_is_seen_why_how_to_look_and_what_to_do(alert: str) -> None:
    parts = re.findall(r"^\*\*(.+?)\.\*\* \S", SECTIONS[alert], re.MULTILINE)
    assert parts == ["Symptom", "Cause", "How to see it", "What to do"]


def test_the_runbook_names_panels_alerts_and_commands_that_exist() -> None:
    assert {f"Silokit{name}" for name in re.findall(r"Silokit(\w+)", RUNBOOK)} == set(ALERTS)
    titles = {board.title for board in BOARDS}
    panels = {panel.title for board in BOARDS for row in board.rows.values() for panel in row}
    said = " ".join(RUNBOOK.split())
    assert set(re.findall(r"(?<!\*)\*([A-Z]\w+)\*(?!\*)", said)) <= titles
    for panel in re.findall(r'"([^"]+)"', said):
        assert any(title.startswith(panel) for title in panels), panel
    for program, word in re.findall(r"`(silo-agent|coordinator) ([a-z-]+)", said):
        command = get_command(APPS[program])
        assert isinstance(command, typer.core.TyperGroup)
        assert word in command.commands, f"{program} {word}"


def test_alerts_and_dashboards_speak_of_metrics_that_are_documented() -> None:
    known = {entry.name for entry in CATALOGUE}
    panels = [query for board in BOARDS for row in board.rows.values() for panel in row for query, _ in panel.queries]
    for expression in [*panels, *(rule["expr"] for rule in RULES)]:
        for name in re.findall(r"\bsilokit_\w+", expression):
            assert name in known or name.removesuffix("_bucket") in known, name


def test_the_examples_are_what_prometheus_and_alertmanager_read() -> None:
    run("promtool", "check", "config", MONITORING / "prometheus.yaml")
    run("amtool", "check-config", MONITORING / "alertmanager.yaml")
