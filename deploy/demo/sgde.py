"""A pool of private generators as twenty hospitals would make it, on one machine: every step is a public command line.

Twenty silos with patients of their own (SUPPORT2) and a coordinator, as separate processes over a folder and an SQLite
file. Only the last step could not happen in the field: comparing with a model of everybody's real patients.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from rich.table import Table

from deploy.demo import support2
from deploy.demo.models import Scores, score
from deploy.demo.stage import CACHE, COORDINATOR, FolderStage, console, heading
from deploy.demo.watch import wait_until_ready, watch
from protocols.spec import RunSpec, parse_spec
from services.errors import SilokitError

HERE = Path(__file__).parent
ROOT = Path("demo-sgde")
SILOS = tuple(f"hospital-{number:02}" for number in range(1, 21))
HELD_OUT = 0.2
PER_CLASS = 2000  # synthetic patients of each outcome
OWN, POOLED = "one hospital's own patients (mean over hospitals)", "synthetic patients of the pool"


def main() -> None:
    """Run the demo; ends with an exit code of 0 only when everything it promises is there."""
    parser = argparse.ArgumentParser(prog="make demo-sgde", description=__doc__)
    parser.add_argument("--data", type=Path, help="a copy of support2.csv, where it cannot be fetched")
    parser.add_argument("--short", action="store_true", help="five hospitals: a check that everything runs")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        stage = FolderStage(ROOT, "support2")
        spec = prepare(arguments.data, SILOS[:5] if arguments.short else SILOS)
        enrol(stage, tuple(spec.silos))
        run_once(stage, tuple(spec.silos))
        measure(spec)
    except SilokitError as error:
        console.print(f"[bold red]{error}[/]")
        sys.exit(error.exit_code)
    console.print(f"\nThe demo took {time.monotonic() - started:.0f} s.")


def prepare(data: Path | None, silos: tuple[str, ...]) -> RunSpec:
    """Write a table per hospital, the patients that none of them has, and the run specification."""
    heading(f"{len(silos)} hospitals hold the same columns of different patients; each treats one kind of disease")
    written = yaml.safe_load((HERE / "sgde.yaml").read_text()) | {"silos": {silo: {} for silo in silos}}
    (ROOT / "run.yaml").write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True))
    spec = parse_spec(written)
    patients = support2.tidied(data or support2.fetch(CACHE), spec.every_column)
    order = np.random.default_rng(0).permutation(len(patients))
    held_out, others = np.split(order, [round(len(order) * HELD_OUT)])
    others = others[np.argsort(patients["dzclass"].to_numpy()[others], kind="stable")]
    (ROOT / "tables").mkdir()
    patients.iloc[held_out].to_csv(ROOT / "holdout.csv", index=False)
    for silo, rows in zip(silos, np.array_split(others, len(SILOS)), strict=False):
        patients.iloc[rows].to_csv(ROOT / "tables" / f"{silo}.csv", index=False)
    console.print(
        f"  {len(silos)} tables of about {len(others) // len(SILOS)} patients, {len(spec.columns)} columns each"
    )
    return spec


def enrol(stage: FolderStage, silos: tuple[str, ...]) -> None:
    """Found the federation, and enrol its silos; the first is shown."""
    heading("Keys are made at each party; people compare fingerprints (shown for the first)")
    stage.found(ROOT / "store", ROOT / "bus.sqlite")
    first, *others = silos
    policy = HERE / "sgde-policy.yaml"
    stage.admit(first, stage.request(first, ROOT / "tables" / f"{first}.csv", policy))
    stage.enrol(first)
    with ThreadPoolExecutor(4) as pool:
        shown = pool.map(lambda s: stage.request(s, ROOT / "tables" / f"{s}.csv", policy, quiet=True), others)
        for silo, fingerprint in zip(others, shown, strict=True):
            stage.admit(silo, fingerprint, quiet=True)
        list(pool.map(lambda silo: stage.enrol(silo, quiet=True), others))
    console.print(f"  {len(others)} more hospitals did the same")


def run_once(stage: FolderStage, names: tuple[str, ...]) -> None:
    """Start every party, have every silo push a generator, and let one of them use the pool."""
    heading("Every party's service starts; the consortium submits a run")
    first = names[0]
    services = {COORDINATOR: stage.start(COORDINATOR)}
    try:
        wait_until_ready(services)  # it publishes the roster that the silos look for
        stage.command("silo-agent", "check", "--spec", ROOT / "run.yaml", config=first)
        silos = {silo: stage.start(silo) for silo in names}
        services |= silos
        wait_until_ready(silos)
        run = stage.command("coordinator", "submit", ROOT / "run.yaml", config=COORDINATOR).strip()
        watch(console, services, run)
        heading(f"{first} looks at the pool, pulls it, and samples as many patients as it likes")
        _wait_for_catalog(stage, first, len(names))
        stage.command("silo-agent", "pool", "list", config=first)
        stage.command("silo-agent", "pool", "pull", "--all", config=first)
        stage.command("silo-agent", "pool", "score", config=first)
        out = ROOT / "synthetic.csv"
        stage.command("silo-agent", "synthesize", "--per-class", PER_CLASS, "--out", out, config=first)
        stage.command("silo-agent", "budget", config=first)
    finally:
        for service in services.values():
            service.process.terminate()
        for service in services.values():
            service.stop()


def _wait_for_catalog(stage: FolderStage, silo: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stage.command("silo-agent", "pool", "refresh", config=silo, quiet=True)
        listed = json.loads(stage.command("silo-agent", "pool", "list", "--json", config=silo, quiet=True))
        if len(listed["generators"]) == count:
            return
        time.sleep(0.5)
    raise SilokitError("the catalog does not list every generator within a minute", fix="see the coordinator's log")


def measure(spec: RunSpec) -> None:
    """Compare models of local, synthetic and everybody's real patients on patients that no hospital had."""
    heading("A model of synthetic patients, on patients that no hospital had")
    label = str(spec.training["label"])
    read = {"dtype": str, "keep_default_na": False}
    held_out = pd.read_csv(ROOT / "holdout.csv", **read)
    tables = [pd.read_csv(ROOT / "tables" / f"{silo}.csv", **read) for silo in spec.silos]
    synthetic = pd.read_csv(ROOT / "synthetic.csv", **read)
    local = [score(table, held_out, spec.columns, label) for table in tables]
    rows = {
        OWN: Scores(*np.mean(local, axis=0)),
        POOLED: score(synthetic, held_out, spec.columns, label),
        "everybody's real patients (only a demo has them)": score(pd.concat(tables), held_out, spec.columns, label),
    }
    table = Table(title=f"Logistic regression of {label}, held-out patients", title_justify="left")
    for name in ("trained on", "accuracy", "F1", "AUC"):
        table.add_column(name, justify="left" if name == "trained on" else "right")
    for name, scores in rows.items():
        table.add_row(name, *(f"{100 * value:.1f}" for value in scores))
    console.print(table)
    training = spec.training
    console.print(
        f"Each generator is differentially private: ε = {training['epsilon']} at δ = {training['delta']:g}, per person "
        "and hospital. Its signature proves who claims this, not that it is true."
    )
    if rows[POOLED].auc <= rows[OWN].auc:
        console.print("[yellow]The pool does not beat a hospital's own patients here.[/]")


if __name__ == "__main__":
    main()
