"""The main job as four institutions would do it, on one machine: every step is a public command line.

Three silos with different columns of the same patients (SUPPORT2) and a coordinator, as separate processes over a
folder and an SQLite file, or over servers of their own. Only the last step could not happen in the field: measuring
the joined table against the joined real one, which nobody but a demo may hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import yaml

from deploy.demo import support2, wire
from deploy.demo.closing import joint_facts, print_scores
from deploy.demo.stage import CACHE, Stage, console, heading
from deploy.demo.watch import wait_until_ready, watch
from deploy.servers.provisioned import Servers
from services.errors import SilokitError

SILOS = ("admissions", "laboratory", "outcomes")
HERE = Path(__file__).parent
ROOT = Path("demo")
SHORT = {"steps": 150}


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
            stage = Stage(ROOT, "support2")
            prepare(arguments.data, short=arguments.short)
            enrol(stage, servers)
            if servers is not None:
                provision(stage, servers)
            run_once(stage, started)
    except SilokitError as error:
        console.print(f"[bold red]{error}[/]")
        sys.exit(error.exit_code)


def prepare(data: Path | None, *, short: bool) -> None:
    """Write tables for three silos, and the run specification."""
    heading("Three silos hold different columns of the same patients")
    csv = data or support2.fetch(CACHE)
    support2.split(csv, ROOT / "tables")
    spec = yaml.safe_load((HERE / "run.yaml").read_text())
    if short:
        spec["training"] = {**spec.get("training", {}), **SHORT}
        spec["rows"] = 2000
    (ROOT / "run.yaml").write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    for silo in SILOS:
        with (ROOT / "tables" / f"{silo}.csv").open() as table:
            columns = table.readline().count(",") + 1
            console.print(f"  {silo:12} {sum(1 for _ in table):5} patients, {columns} columns, its own order of rows")


def enrol(stage: Stage, servers: Servers | None) -> None:
    """Found the federation, set up the silos, and compare fingerprints both ways."""
    heading("Keys are made at each party; people compare fingerprints")
    store, bus = (servers.store, servers.bus) if servers else (ROOT / "store", ROOT / "bus.sqlite")
    stage.found(store, bus)
    for silo in SILOS:
        stage.admit(silo, stage.request(silo, ROOT / "tables" / f"{silo}.csv", HERE / "policy.yaml"))
        stage.enrol(silo)


def provision(stage: Stage, servers: Servers) -> None:
    """Tell broker and store who the members are, and start them."""
    heading("The consortium's operators start a RabbitMQ broker and an S3 store")
    stage.command("coordinator", "provision", ROOT / "provisioned", "--server", "localhost", config="coordinator")
    servers.start(ROOT / "provisioned")
    console.print(f"  {servers.bus}\n  {servers.store}", highlight=False)


def run_once(stage: Stage, started: float) -> None:
    """Start every party, run once from the offer to the measured product, and stop them."""
    heading("Four services start; the consortium submits a run")
    services = {"coordinator": stage.start("coordinator")}
    try:
        wait_until_ready(services)  # it publishes the roster that the silos look for
        stage.command("silo-agent", "check", "--spec", ROOT / "run.yaml", config=SILOS[0])
        silos = {silo: stage.start(silo) for silo in SILOS}
        services |= silos
        wait_until_ready(silos)
        run = stage.command("coordinator", "submit", ROOT / "run.yaml", config="coordinator").strip()
        watch(console, services, run)
        stage.command("coordinator", "show", run, config="coordinator")
        share(stage, run)
        measure(stage, run, started)
    finally:
        for service in services.values():
            service.stop()


def share(stage: Stage, run: str) -> None:
    """Release two silos' synthetic columns to the third, whose people join them to one table."""
    heading("The product: released columns, joined by the silo that they were released to")
    *others, last = SILOS
    for silo in others:
        stage.command("silo-agent", "release", run, "--to", last, config=silo)
    parts = [ROOT / last / "outputs" / run / "received" / f"{silo}.parquet" for silo in others]
    deadline = time.monotonic() + 30
    while not all(part.exists() for part in parts) and time.monotonic() < deadline:
        time.sleep(0.1)
    stage.command("silo-agent", "join", run, "--out", ROOT / "synthetic.csv", config=last)


def measure(stage: Stage, run: str, started: float) -> None:
    """Measure the joined table against the joined real one, which only a demo can."""
    heading("Measuring against held-out patients: only a demo holds the joined real table")
    support2.joined(ROOT / "tables", ROOT / SILOS[0] / "outputs" / run / "rows.csv", ROOT)
    reports = {silo: json.loads((ROOT / silo / "outputs" / run / "report.json").read_text()) for silo in SILOS}
    coordinator = json.loads(stage.command("coordinator", "show", run, "--json", config="coordinator", quiet=True))
    silos = {s: json.loads(stage.command("silo-agent", "status", run, "--json", config=s, quiet=True)) for s in SILOS}
    facts = joint_facts(coordinator, silos, reports)
    (ROOT / "facts.json").write_text(json.dumps(facts, indent=2))
    stage.command(
        *("silo-agent", "evaluate", "--spec", ROOT / "run.yaml", "--out", ROOT, "--facts", ROOT / "facts.json"),
        *("--real", ROOT / "real.csv", "--holdout", ROOT / "holdout.csv", "--synthetic", ROOT / "synthetic.csv"),
        live=True,
    )
    print_scores(console, json.loads((ROOT / "report.json").read_text()))
    heading("Where everything is")
    tables = {silo: ROOT / silo / "outputs" / run for silo in SILOS} | {"joined": ROOT}
    for name, folder in tables.items():
        console.print(f"  [bold]{name:12}[/] {folder}/synthetic.csv  report.html", highlight=False, soft_wrap=True)
    console.print(f"\n  Open [bold green]{ROOT / 'report.html'}[/] in a browser.")
    console.print(f"The demo took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
