"""How good is the synthetic data, how fast, and compared with what? SiloFuse's benchmark, one cell after the other.

    make bench-silofuse DATA=DIR           # DIR holds adult.csv and abalone.csv; without it SUPPORT2 alone
    make bench-silofuse-short              # SUPPORT2, few rows, little training: what continuous integration runs
    python -m tests.benchmarks.silofuse --data DIR --only adult/opaque --only '*/tvae*'   # these cells, made anew

A cell is a model on a table's split under a seed, in a process of its own on two threads (`cell`). Results lie in
`--out`, so that an interrupted benchmark goes on where it stopped (`cells`); tables, gates, JSON and a page are made of
all cells that are there and of present code. Ends with 1 where a gate is not met or a cell failed. Peers at their
default epochs take minutes and run under the first seed alone, unless `--peer-seeds` says otherwise.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from services.errors import SilokitError
from services.files import write_atomic
from tests.benchmarks.silofuse import gates
from tests.benchmarks.silofuse.cell import THREADS
from tests.benchmarks.silofuse.cells import Folder, Request, Result, asked
from tests.benchmarks.silofuse.gates import Verdict, judged
from tests.benchmarks.silofuse.models import FORMS, MODELS, SHORT, TIMEKEEPER
from tests.benchmarks.silofuse.page import render
from tests.benchmarks.silofuse.show import WIDTH, show
from tests.benchmarks.silofuse.summary import Summary, summarise
from tests.benchmarks.silofuse.tables import SHIPPED, TABLES

OUT, OUT_SHORT = Path("build/bench-silofuse"), Path("build/bench-silofuse-short")
SHORT_ROWS, SHORT_STEPS = 2500, 400
SECONDS = {
    "adult": {"yardstick": 16, "ours": 90, "CTGAN": 330, "TVAE": 120},
    "abalone": {"yardstick": 8, "ours": 35, "CTGAN": 70, "TVAE": 30},
    "support2": {"yardstick": 25, "ours": 75, "CTGAN": 330, "TVAE": 110},
}
"""What a cell takes on two idle cores, about: for the estimate at the start."""
console = Console(width=max(WIDTH, Console().width), highlight=False)


class Benchmark:
    """All cells that were asked for.

    Args:
        requests: in the order in which they are made.
        out: the folder of results.
        data: the folder of tables.
    """

    def __init__(self, requests: Sequence[Request], out: Path, data: Path | None) -> None:
        self._requests, self._folder, self._data = requests, Folder(out), data
        self._out = out
        self.failed: list[str] = []

    def present(self) -> list[Result]:
        """Results of present code for the requests of this benchmark."""
        budgeted = (self._budgeted(request) for request in self._requests)
        return [result for request in budgeted if request and (result := self._folder.found(request))]

    def run(self, only: Sequence[str]) -> None:
        """Make what is missing, or what `only` names."""
        wanted = [one for one in self._requests if self._wanted(one, only)]
        other = [one for one in wanted if self._folder.read(one.table, one.model, one.seed)]
        expected = sum(_expected(one) for one in wanted)
        console.print(
            f"{len(self._requests)} cells, {len(self._requests) - len(wanted)} of them there already or not asked for; "
            f"{len(wanted)} to make, about {expected / 60:.0f} minutes on two idle cores"
        )
        if other:
            console.print(f"of other code, of other settings or named by --only, so made anew: {_names(other)}")
        for number, request in enumerate(wanted, start=1):
            console.print(f"[{number}/{len(wanted)}] {request.name} …", end=" ", markup=False)
            began = time.perf_counter()
            said = self._make(request)
            console.print(f"{said} ({time.perf_counter() - began:.0f} s)", markup=False)

    def _wanted(self, request: Request, only: Sequence[str]) -> bool:
        if only:
            return any(fnmatch(f"{request.table}/{request.model}", pattern) for pattern in only)
        budgeted = self._budgeted(request)
        return budgeted is None or self._folder.found(budgeted) is None

    def _budgeted(self, request: Request) -> Request | None:
        """The request with the time that it is given; None while the form that sets it was not run."""
        if not MODELS[request.model].timed:
            return request
        keeper = self._folder.found(request.model_copy(update={"model": TIMEKEEPER}))
        return request.model_copy(update={"budget": round(keeper.training, 1)}) if keeper else None

    def _make(self, request: Request) -> str:
        """Make a cell; a sentence about it."""
        budgeted = self._budgeted(request)
        if budgeted is None:
            self.failed.append(request.name)
            return f"failed: {request.table}/{TIMEKEEPER}, whose time it is to have, is missing"
        data = ["--data", str(self._data)] if self._data else []
        command = [sys.executable, "-m", "tests.benchmarks.silofuse.cell", budgeted.model_dump_json(), str(self._out)]
        done = subprocess.run([*command, *data], env=_environment(request), capture_output=True, text=True, check=False)
        result = self._folder.found(budgeted)
        if done.returncode or result is None:
            self.failed.append(request.name)
            return f"failed:\n{done.stderr[-2000:]}"
        parts, utility = result.report["resemblance"], result.report["utility"]["overall"]
        return (
            f"resemblance {parts['overall']:.1f} (propensity {parts['propensity']:.1f}), utility {utility}, "
            f"detection {result.report['detection_auc']:.3f}, memorisation {result.report['memorisation']:.3f}"
        )


def _environment(request: Request) -> dict[str, str]:
    """A cell's environment: with few rows no time is measured, and on shared cores threads that spin cost tenfold."""
    return os.environ | ({"OMP_WAIT_POLICY": "PASSIVE"} if request.rows else {})


def _expected(request: Request) -> float:
    """Seconds that a cell takes, about; a timed peer as long as ours and its preprocessing."""
    model, seconds = MODELS[request.model], SECONDS[request.table]
    if request.rows:
        return 20
    if model.timed:
        return seconds["ours"] + 20
    return seconds[model.peer or ("ours" if model.form else "yardstick")]


def _names(requests: Sequence[Request]) -> str:
    names = [request.name for request in requests]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def about(results: Sequence[Result], seeds: int) -> dict[str, str]:
    """Where and with what the results came about."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    versions = dict(sorted({item for result in results for item in result.versions.items()}))
    began = sorted(result.began[:10] for result in results)
    return {
        "Date": " to ".join(dict.fromkeys([began[0], began[-1]]))
        if began
        else dt.datetime.now(dt.UTC).date().isoformat(),
        "Machine": f"{cpus[0] if cpus else platform.machine()}, {os.cpu_count()} cores, {THREADS} threads used",
        "Seeds": str(seeds),
        "Versions": ", ".join(
            f"{name} {version}" for name, version in [("Python", platform.python_version()), *versions.items()]
        ),
    }


def report(results: Sequence[Result], verdicts: Sequence[Verdict], summary: Summary, seeds: int, out: Path) -> None:
    """Print the tables, and write them as text, as JSON and as a page."""
    facts = about(results, seeds)
    show(summary, verdicts, console)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "tables.txt").open("w", encoding="utf-8") as file:
        show(summary, verdicts, Console(file=file, width=WIDTH))
    whole = {
        "about": facts,
        "summary": [
            {"table": table, "model": model, **{name: asdict(figure) for name, figure in row.items()}}
            for (table, model), row in summary.items()
        ],
        "gates": [
            {"what": one.gate.what, "value": one.value, "least": one.gate.least, "bound": one.gate.bound,
             "met": one.met, "goal": one.gate.goal, "reached": one.reached}
            for one in verdicts
        ],
        "cells": [result.model_dump(mode="json") for result in results],
    }  # fmt: skip
    write_atomic(out / "results.json", json.dumps(whole, indent=1).encode())
    render(summary, verdicts, facts, out / "index.html")
    console.print(f"\n{out}/tables.txt, {out}/results.json, {out}/index.html")


def main() -> int:
    """Run the benchmark; 0 where every gate that was measured is met and no cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.silofuse", description="SiloFuse's benchmark")
    parser.add_argument("--data", type=Path, help="a folder with adult.csv and abalone.csv (and support2.csv)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1, help="seeds of peers at their default epochs")
    parser.add_argument("--only", action="append", default=[], metavar="TABLE/MODEL", help="make these cells anew")
    parser.add_argument("--short", action="store_true", help="SUPPORT2, few rows, little training, one seed, no peers")
    parser.add_argument("--out", type=Path, help=f"the folder of results: {OUT}, or {OUT_SHORT}")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = {"rows": arguments.rows, "steps": arguments.steps, "epochs": arguments.epochs}
    if arguments.short:
        seeds, out, judges = 1, arguments.out or OUT_SHORT, gates.short(FORMS)
        options |= {"rows": SHORT_ROWS, "steps": SHORT_STEPS}
        requests = asked(SHIPPED, SHORT, seeds, 0, options)
    else:
        seeds, out, judges = arguments.seeds, arguments.out or OUT, gates.FULL
        tables = tuple(TABLES) if arguments.data else SHIPPED
        requests = asked(tables, tuple(MODELS), seeds, min(seeds, arguments.peer_seeds), options)
    benchmark = Benchmark(requests, out, arguments.data)
    try:
        TABLES["support2"](arguments.data)  # fetched once, before many processes look for it
        benchmark.run(arguments.only)
    except KeyboardInterrupt:
        console.print("\nstopped; the same command goes on from here")
        return 130
    results = benchmark.present()
    summary = summarise(results)
    verdicts = judged(judges, summary)
    report(results, verdicts, summary, seeds, out)
    missed = [verdict.gate.what for verdict in verdicts if verdict.met is False]
    for what, names in (("gates not met", missed), ("cells that failed", benchmark.failed)):
        if names:
            console.print(f"{what}: {'; '.join(names)}", style="bold red")
    return 1 if missed or benchmark.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SilokitError as error:
        sys.exit(str(error))
