"""The main job as four institutions would do it, on one machine: every step is a public command line.

Three silos with different columns of the same patients (SUPPORT2) and a coordinator, as separate processes over a
folder and an SQLite file, or over servers of their own. Only the last step could not happen in the field: measuring
the joined table against the joined real one, which nobody but a demo may hold.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import yaml
from rich.console import Console
from rich.rule import Rule

from deploy.demo import support2, wire
from deploy.demo.closing import joint_facts, print_scores
from deploy.demo.watch import Service, wait_until_ready, watch
from deploy.servers.provisioned import Servers
from services.errors import SilokitError

SILOS = ("admissions", "laboratory", "outcomes")
BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
ROOT = Path("demo")
CACHE = Path(".cache")
SHORT = {"steps": 150}
console = Console()


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
            prepare(arguments.data, short=arguments.short)
            enrol(servers)
            if servers is not None:
                provision(servers)
            run_once(started)
    except SilokitError as error:
        console.print(f"[bold red]{error}[/]")
        sys.exit(error.exit_code)


def prepare(data: Path | None, *, short: bool) -> None:
    """Start clean: tables for three silos, and the run specification."""
    heading("Three silos hold different columns of the same patients")
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
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


def enrol(servers: Servers | None) -> None:
    """Found the federation, set up the silos, and compare fingerprints both ways."""
    heading("Keys are made at each party; people compare fingerprints")
    store, bus = (servers.store, servers.bus) if servers else (ROOT / "store", ROOT / "bus.sqlite")
    place = ("--federation", "support2", "--store", store, "--bus", bus)
    founded = command("coordinator", "init", ROOT / "coordinator", *place)
    root = fingerprint_in(founded)
    for silo in SILOS:
        table = ROOT / "tables" / f"{silo}.csv"
        command("silo-agent", "init", ROOT / silo, "--name", silo, *place, "--data", table, quiet=True)
        shutil.copy(HERE / "policy.yaml", ROOT / silo / "policy.yaml")
        request, admission = ROOT / f"enrolment-{silo}.json", ROOT / f"admission-{silo}.json"
        shown = fingerprint_in(command("silo-agent", "enroll", "--out", request, config=silo))
        command("coordinator", "admit", request, "--fingerprint", shown, "--out", admission, config="coordinator")
        command("silo-agent", "enroll", "--admission", admission, "--fingerprint", root, config=silo)


def provision(servers: Servers) -> None:
    """Tell broker and store who the members are, and start them."""
    heading("The consortium's operators start a RabbitMQ broker and an S3 store")
    command("coordinator", "provision", ROOT / "provisioned", "--server", "localhost", config="coordinator")
    servers.start(ROOT / "provisioned")
    console.print(f"  {servers.bus}\n  {servers.store}", highlight=False)


def run_once(started: float) -> None:
    """Start every party, run once from the offer to the measured product, and stop them."""
    heading("Four services start; the consortium submits a run")
    services = {"coordinator": start("coordinator")}
    try:
        wait_until_ready(services)  # it publishes the roster that the silos look for
        command("silo-agent", "check", "--spec", ROOT / "run.yaml", config=SILOS[0])
        silos = {silo: start(silo) for silo in SILOS}
        services |= silos
        wait_until_ready(silos)
        run = command("coordinator", "submit", ROOT / "run.yaml", config="coordinator").strip()
        watch(console, services, run)
        command("coordinator", "show", run, config="coordinator")
        share(run)
        measure(run, started)
    finally:
        for service in services.values():
            service.stop()


def share(run: str) -> None:
    """Release two silos' synthetic columns to the third, whose people join them to one table."""
    heading("The product: released columns, joined by the silo that they were released to")
    *others, last = SILOS
    for silo in others:
        command("silo-agent", "release", run, "--to", last, config=silo)
    parts = [ROOT / last / "outputs" / run / "received" / f"{silo}.parquet" for silo in others]
    deadline = time.monotonic() + 30
    while not all(part.exists() for part in parts) and time.monotonic() < deadline:
        time.sleep(0.1)
    command("silo-agent", "join", run, "--out", ROOT / "synthetic.csv", config=last)


def measure(run: str, started: float) -> None:
    """Measure the joined table against the joined real one, which only a demo can."""
    heading("Measuring against held-out patients: only a demo holds the joined real table")
    support2.joined(ROOT / "tables", ROOT / SILOS[0] / "outputs" / run / "rows.csv", ROOT)
    reports = {silo: json.loads((ROOT / silo / "outputs" / run / "report.json").read_text()) for silo in SILOS}
    coordinator = json.loads(command("coordinator", "show", run, "--json", config="coordinator", quiet=True))
    silos = {s: json.loads(command("silo-agent", "status", run, "--json", config=s, quiet=True)) for s in SILOS}
    facts = joint_facts(coordinator, silos, reports)
    (ROOT / "facts.json").write_text(json.dumps(facts, indent=2))
    command(
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


def start(name: str) -> Service:
    """Start a party's service; its log is what its operators would watch."""
    program = "coordinator" if name == "coordinator" else "silo-agent"
    return Service.start([str(BIN / program), "serve", *_config(name), "--log-format", "json"], ROOT / f"{name}.log")


def command(*words: object, config: str = "", quiet: bool = False, live: bool = False) -> str:
    """Run a public command line as people would, and show it."""
    program, *rest = [str(word) for word in words]
    arguments = [program, *rest, *_config(config)]
    if not quiet:
        console.print(f"[bold cyan]$[/] {shlex.join(arguments)}", highlight=False, soft_wrap=True)
    out = None if live else subprocess.PIPE
    done = subprocess.run([BIN / program, *arguments[1:]], stdout=out, text=True, check=False)
    if not quiet and not live:
        console.print(done.stdout.rstrip(), highlight=False, markup=False, style="dim")
    if done.returncode:
        raise SilokitError(f"`{' '.join(arguments)}` ended with exit code {done.returncode}", fix="see its error above")
    return done.stdout or ""


def _config(name: str) -> list[str]:
    if not name:
        return []
    return ["--config", str(ROOT / name / ("coordinator.yaml" if name == "coordinator" else "silo-agent.yaml"))]


def fingerprint_in(text: str) -> str:
    """The fingerprint that a command printed: in the field, a voice on the telephone."""
    found = re.findall(r"\b(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}\b", text)
    if not found:
        raise SilokitError("a command printed no fingerprint")
    return str(found[-1])


def heading(text: str) -> None:
    """A line between two parts of the story."""
    console.print()
    console.print(Rule(f"[bold]{text}[/]", align="left"))


if __name__ == "__main__":
    main()
