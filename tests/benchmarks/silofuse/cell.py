"""Makes and measures one cell in a process of its own, whose peak memory is the model's: `cells` says what it is.

    python -m tests.benchmarks.silofuse.cell REQUEST OUT [--data DIR]

`REQUEST` is JSON. Everything is measured on two threads, and the evaluation begins after the memory was read.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from protocols.learning.evaluate.inversion import inversion
from protocols.learning.evaluate.measure import evaluate
from protocols.learning.schema import Columns
from protocols.silofuse.learned import STEPS
from protocols.silofuse.parameters import SiloFuseParameters
from tests.benchmarks.silofuse import ours, peers, strict
from tests.benchmarks.silofuse.cells import Folder, Request, Result, key
from tests.benchmarks.silofuse.models import INDEPENDENT, MODELS, REAL, Model
from tests.benchmarks.silofuse.tables import TABLES, Blocks, Table, blocks, permuted

THREADS = 2


def run(request: Request, data: Path | None) -> Result:
    """Draw the split, make synthetic rows, and put them through every measure."""
    began = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    table, model = TABLES[request.table](data), MODELS[request.model]
    training, held_out = table.split(request.seed, request.rows)
    facts: dict[str, object] = {}
    if model.form:
        few = {"steps": request.steps} if request.steps else {}
        parameters = SiloFuseParameters(form=model.form, seed=request.seed, **few)
        silos = arranged(table, model, request.seed)
        made = ours.make(training, table.columns, silos, parameters, request.steps or STEPS)
        synthetic, facts = made.synthetic, {"seconds": made.seconds, "bytes": made.bytes, "memory": peak_memory()}
        if len(silos) > 1:
            facts["inversion"] = leaked(made, training, table.columns, silos)
        facts["versions"] = {"torch": torch.__version__}
    elif model.peer:
        asked = {"model": model.peer, "seed": request.seed, "threads": THREADS}
        limits = {"epochs": request.epochs, "budget": request.budget if model.timed else None}
        synthetic, facts = peers.make(training, table.columns, {**asked, **limits})
    elif request.model == REAL:
        half = len(training) // 2
        training, synthetic = training.iloc[:half].reset_index(drop=True), training.iloc[half:].reset_index(drop=True)
    elif request.model == INDEPENDENT:
        synthetic = resampled(training, request.seed)
    report = evaluate(training, held_out, synthetic, table.columns, table.targets, seed=request.seed)
    harsh = strict.judge(held_out, synthetic, table.columns, report, request.seed)
    versions = {"xgboost": importlib.metadata.version("xgboost-cpu"), **facts.pop("versions", {})}
    return Result.model_validate(
        {
            "key": key(request),
            "request": request,
            "began": began,
            "report": report.model_dump(exclude={"latent_inversion", "seconds", "bytes_sent"}),
            "strict": harsh,
            "versions": versions,
            **facts,
        }
    )


def arranged(table: Table, model: Model, seed: int) -> Blocks:
    """Which silo holds which columns."""
    if model.silos is None:
        return table.silos
    names = tuple(table.columns)
    return blocks(permuted(names, seed) if model.permuted else names, model.silos)


def leaked(made: ours.Made, training: pd.DataFrame, columns: Columns, silos: Blocks) -> dict[str, float | None]:
    """Means over the silos that the measure applies to, each attacked through its own latents."""
    found = [
        inversion(latents, training, {name: columns[name] for name in names}).model_dump()
        for latents, names in zip(made.latents, silos, strict=True)
    ]
    known = {name: [one[name] for one in found if one[name] is not None] for name in found[0]}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def resampled(training: pd.DataFrame, seed: int) -> pd.DataFrame:
    """As many rows, each column drawn with replacement from its own values: right in itself, in no relation."""
    rng = np.random.default_rng(seed)
    drawn = {name: values.iloc[rng.integers(0, len(training), len(training))] for name, values in training.items()}
    return pd.DataFrame({name: values.reset_index(drop=True) for name, values in drawn.items()})


def peak_memory() -> int:
    """Bytes that this process held at most; `ru_maxrss` would count what its parent held before it began."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main() -> None:
    """Make one cell, and keep its result."""
    parser = argparse.ArgumentParser(description="one cell of the SiloFuse benchmark")
    parser.add_argument("request")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    Folder(arguments.out).write(run(Request.model_validate_json(arguments.request), arguments.data))


if __name__ == "__main__":
    main()
