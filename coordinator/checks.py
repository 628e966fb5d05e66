"""What `coordinator check` looks at: each failure comes with its fix."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from coordinator import roster
from coordinator.settings import CoordinatorConfig, load
from services.checks import check_home, check_party, read_configuration
from services.report import Report


def run_checks(console: Console, path: Path, *, network: bool, start: bool = False) -> bool:
    """Run and print every check; returns whether all passed, or with `start` those that waiting does not heal."""
    report = Report(console)
    config = read_configuration(report, lambda: load(path), path)
    can_start = config is not None and check_home(report, config)
    if config is not None:
        report.look("repository", lambda: _repository(config), after=can_start)
        check_party(report, config, network=network)
    report.show()
    return can_start if start else report.passed


def _repository(config: CoordinatorConfig) -> str:
    kept = roster.repository(config)
    signed, members = kept.targets, kept.roster.members
    return f"targets version {signed.version}, {len(members)} members, until {signed.expires:%Y-%m-%d}"
