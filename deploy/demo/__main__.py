"""The main job as four institutions would do it, on one machine: every step is a public command line.

Three silos with different columns of the same patients (SUPPORT2) and a coordinator, as separate processes over a
folder and an SQLite file, or over servers of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from deploy.demo import wire
from deploy.demo.play import POLICY, SILOS, prepare, run_once
from deploy.demo.stage import COORDINATOR, FolderStage, console, heading
from deploy.demo.watch import Service, wait_until_ready
from deploy.servers.provisioned import Servers
from services.errors import SilokitError

ROOT = Path("demo")


def main() -> None:
    """Run the demo; ends with an exit code of 0 only when everything it promises is there."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="a copy of support2.csv, where it cannot be fetched")
    parser.add_argument("--short", action="store_true", help="little training: a check that everything runs")
    parser.add_argument("--wire", action="store_true", help="over a RabbitMQ broker and an S3 store, started for it")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        with wire.servers() if arguments.wire else nullcontext() as servers:
            stage = FolderStage(ROOT, "support2")
            prepare(ROOT, stage.spec, arguments.data, short=arguments.short)
            enrol(stage, servers)
            if servers is not None:
                provision(stage, servers)
            serve_and_run(stage, started)
    except SilokitError as error:
        console.print(f"[bold red]{error}[/]")
        sys.exit(error.exit_code)


def enrol(stage: FolderStage, servers: Servers | None) -> None:
    """Found the federation, set up the silos, and compare fingerprints both ways."""
    heading("Keys are made at each party; people compare fingerprints")
    store, bus = (servers.store, servers.bus) if servers else (ROOT / "store", ROOT / "bus.sqlite")
    stage.found(store, bus)
    for silo in SILOS:
        stage.admit(silo, stage.request(silo, ROOT / "tables" / f"{silo}.csv", POLICY))
        stage.enrol(silo)


def provision(stage: FolderStage, servers: Servers) -> None:
    """Tell broker and store who the members are, and start them."""
    heading("The consortium's operators start a RabbitMQ broker and an S3 store")
    stage.command("coordinator", "provision", ROOT / "provisioned", "--server", "localhost", config=COORDINATOR)
    servers.start(ROOT / "provisioned")
    console.print(f"  {servers.bus}\n  {servers.store}", highlight=False)


def serve_and_run(stage: FolderStage, started: float) -> None:
    """Start every party, run once from the offer to the measured product, and stop them."""
    heading("Four services start; the consortium submits a run")
    services: dict[str, Service] = {}
    try:
        services[COORDINATOR] = stage.start(COORDINATOR)
        wait_until_ready(services)  # it publishes the roster that the silos look for
        stage.command("silo-agent", "check", "--spec", stage.spec, config=SILOS[0])
        silos = {silo: stage.start(silo) for silo in SILOS}
        services |= silos
        wait_until_ready(silos)
        run_once(stage, services, started)
    finally:
        for service in services.values():
            service.stop()


if __name__ == "__main__":
    main()
