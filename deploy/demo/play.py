"""The main job, on whichever stage: one run from the offer to the measured product, every step a public command line.

Only the last step could not happen in the field: measuring the joined table against the joined real one, which nobody
but a demo may hold.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import yaml

from deploy.demo import support2
from deploy.demo.closing import joint_facts, print_scores
from deploy.demo.stage import CACHE, COORDINATOR, Stage, console, heading
from deploy.demo.watch import Service, watch
from services.errors import RunFailed

SILOS = ("admissions", "laboratory", "outcomes")
HERE = Path(__file__).parent
POLICY = HERE / "policy.yaml"
SHORT = {"steps": 150}


def prepare(root: Path, spec: Path, data: Path | None, *, short: bool) -> None:
    """Write tables for three silos into `root/tables`, and the run specification to `spec`."""
    heading("Three silos hold different columns of the same patients")
    support2.split(data or support2.fetch(CACHE), root / "tables")
    written = yaml.safe_load((HERE / "run.yaml").read_text())
    if short:
        written["training"] = {**written.get("training", {}), **SHORT}
        written["rows"] = 2000
    spec.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True))
    for silo in SILOS:
        with (root / "tables" / f"{silo}.csv").open() as table:
            columns = table.readline().count(",") + 1
            console.print(f"  {silo:12} {sum(1 for _ in table):5} patients, {columns} columns, its own order of rows")


def run_once(stage: Stage, services: dict[str, Service], started: float) -> None:
    """Submit a run to parties that are ready, and follow it to the measured product."""
    run = stage.command("coordinator", "submit", stage.told(stage.spec), config=COORDINATOR).strip()
    watch(console, services, run)
    stage.command("coordinator", "show", run, config=COORDINATOR)
    share(stage, run)
    measure(stage, run, started)


def share(stage: Stage, run: str) -> None:
    """Release two silos' synthetic columns to the third, whose people join them to one table."""
    heading("The product: released columns, joined by the silo that they were released to")
    *others, last = SILOS
    for silo in others:
        stage.command("silo-agent", "release", run, "--to", last, config=silo)
    deadline = time.monotonic() + 120
    while not all((stage.results(last, run) / "received" / f"{silo}.parquet").exists() for silo in others):
        if time.monotonic() > deadline:
            raise RunFailed(f"the released columns did not reach {last}", fix=f"see the log of {last}")
        time.sleep(0.1)
    joined = stage.results(last, run) / "joined.csv"
    stage.command("silo-agent", "join", run, "--out", stage.told(joined), config=last)
    shutil.copy(stage.results(last, run) / joined.name, stage.root / "synthetic.csv")


def measure(stage: Stage, run: str, started: float) -> None:
    """Measure the joined table against the joined real one, which only a demo can."""
    heading("Measuring against held-out patients: only a demo holds the joined real table")
    root = stage.root
    results = {silo: stage.results(silo, run) for silo in SILOS}
    support2.joined(root / "tables", results[SILOS[0]] / "rows.csv", root)
    reports = {silo: json.loads((results[silo] / "report.json").read_text()) for silo in SILOS}
    coordinator = json.loads(stage.command("coordinator", "show", run, "--json", config=COORDINATOR, quiet=True))
    silos = {s: json.loads(stage.command("silo-agent", "status", run, "--json", config=s, quiet=True)) for s in SILOS}
    facts = joint_facts(coordinator, silos, reports)
    (root / "facts.json").write_text(json.dumps(facts, indent=2))
    stage.command(
        *("silo-agent", "evaluate", "--spec", stage.spec, "--out", root, "--facts", root / "facts.json"),
        *("--real", root / "real.csv", "--holdout", root / "holdout.csv", "--synthetic", root / "synthetic.csv"),
        live=True,
    )
    print_scores(console, json.loads((root / "report.json").read_text()))
    heading("Where everything is")
    for name, folder in {**results, "joined": root}.items():
        console.print(f"  [bold]{name:12}[/] {folder}/synthetic.csv  report.html", highlight=False, soft_wrap=True)
    console.print(f"\n  Open [bold green]{root / 'report.html'}[/] in a browser.")
    console.print(f"The demo took {time.monotonic() - started:.0f} s.")
