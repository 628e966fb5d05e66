"""The whole kit on one machine, in containers: `make up`, `make demo-compose`, `make down`.

The first `up` founds a federation of three silos and gives them the demo's tables; every later one finds it again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from deploy.compose.founding import FOUNDED, configure, found, protect
from deploy.compose.project import Compose
from deploy.compose.stage import ComposeStage
from deploy.demo.play import SILOS, prepare, run_once
from deploy.demo.stage import COORDINATOR, console, heading
from deploy.demo.watch import Service, wait_until_ready
from services.errors import SilokitError
from services.files import private_folder

KIT = Path("kit")


def main() -> None:
    """Do what was asked; ends with an exit code of 0 only when it is done."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compose", description=__doc__)
    parser.add_argument("what", choices=["up", "demo", "down"], help="start; start and run the demo; stop")
    parser.add_argument("--data", type=Path, help="a copy of support2.csv, where it cannot be fetched")
    parser.add_argument("--short", action="store_true", help="demo: little training")
    parser.add_argument("--volumes", action="store_true", help="down: remove every key, table, result and record too")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        compose = Compose()
        if arguments.what == "down":
            down(compose, volumes=arguments.volumes)
            return
        stage = ComposeStage(compose, KIT)
        if arguments.what == "demo" or not (KIT / FOUNDED).exists():
            furnish_demo(stage, arguments.data, short=arguments.short)
        services = up(compose, stage)
        try:
            if arguments.what == "demo":
                heading("The consortium submits a run")
                run_once(stage, services, started)
            tell()
        finally:
            for service in services.values():
                service.stop()  # of these, only the logs' followers: the parties go on
    except SilokitError as error:
        console.print(f"[bold red]{error}[/]", soft_wrap=True)
        sys.exit(error.exit_code)


def furnish_demo(stage: ComposeStage, data: Path | None, *, short: bool) -> None:
    """Write the demo's tables and run, where the containers look for theirs."""
    private_folder(KIT)
    stage.spec.parent.mkdir(exist_ok=True)
    prepare(KIT, stage.spec, data, short=short)
    configure(KIT)
    protect(KIT)


def up(compose: Compose, stage: ComposeStage) -> dict[str, Service]:
    """Start everything, and wait until every party is ready; founds the federation the first time.

    Returns:
        The parties, by their names.

    Raises:
        SilokitError: something does not start.
    """
    if not (KIT / FOUNDED).exists():
        found(compose, KIT)
    heading("Everything starts; whoever needs a server waits for it")
    compose.show("up", "--detach", "--wait", "--wait-timeout", "600")
    services = {name: stage.start(name) for name in (COORDINATOR, *SILOS)}
    wait_until_ready(services)
    console.print("  Four parties are ready.")
    return services


def down(compose: Compose, *, volumes: bool) -> None:
    """Stop everything; with `volumes`, as if it had never been.

    Raises:
        SilokitError: it does not stop.
    """
    compose.show("--profile", "*", "down", "--remove-orphans", *(["--volumes"] if volumes else []))
    if volumes:
        shutil.rmtree(KIT, ignore_errors=True)


def tell() -> None:
    """Say where to look, and what to do next."""
    heading("What runs here")
    ports = {"Grafana": ("GRAFANA_PORT", 3000), "Prometheus": ("PROMETHEUS_PORT", 9090)}
    ports["Alertmanager"] = ("ALERTMANAGER_PORT", 9093)
    for name, (variable, port) in ports.items():
        console.print(f"  {name:13} http://localhost:{os.environ.get(variable) or port}", highlight=False)
    console.print(f"  Grafana's user is admin, its password is in {KIT}/secrets/grafana-password.", highlight=False)
    console.print(
        f"\n  A run: put its specification into {KIT}/runs, then\n"
        "    docker compose -f deploy/compose.yaml exec coordinator coordinator submit /runs/FILE\n"
        "  Weekly: docker compose -f deploy/compose.yaml run --rm desk renew\n"
        "  To stop: make down (it goes on where it was at `make up`); make down VOLUMES=1 forgets everything.",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
