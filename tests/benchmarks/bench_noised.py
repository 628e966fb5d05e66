"""What a claim about every uploaded row costs in quality: SiloFuse under `training.noise`, ε by ε.

    make bench-noised DATA=DIR          # DIR holds adult.csv and abalone.csv; without it SUPPORT2 alone
    python -m tests.benchmarks.bench_noised --steps 500 --epsilon 50 --epsilon 5 --only support2

Each silo's columns are encoded and covered by noise as in a run, the coordinator shrinks, trains and samples, and the
silos read their slices; no keys and no wire. Beside that stand the default form, which adds no noise and claims
nothing, and independent columns, which relate nothing: a claim costs nothing but ε where its row stands as high as the
first, and is not worth its trouble where it stands no higher than the last. ε is told for one silo's upload, δ = 1e-5,
and inversion as the mean over the silos, from 20 and 500 leaked pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Grid

from protocols.learning.evaluate.inversion import inversion
from protocols.learning.evaluate.measure import evaluate
from protocols.learning.evaluate.report import Resemblance
from protocols.learning.schema import Columns
from protocols.learning.training import train
from protocols.silofuse.claim import NoiseParameters, deviation
from protocols.silofuse.noised import Encoder, released
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.silofuse.readings import Readings
from protocols.silofuse.shrinkage import Shrinkage
from services.mechanism import Mechanism
from tests.benchmarks.silofuse import ours
from tests.benchmarks.silofuse.tables import SHIPPED, TABLES, Table

EPSILONS = (50.0, 20.0, 10.0, 5.0)
SKEWED = {
    "support2": (
        "hday", "wblc", "bili", "crea", "glucose", "bun", "urine", "charges", "totcst", "totmcst", "slos", "d_time",
    ),
    "adult": ("fnlwgt", "capital-gain", "capital-loss"),
    "abalone": ("height", "whole_weight", "shucked_weight", "viscera_weight", "shell_weight"),
}  # fmt: skip
"""Amounts, days, concentrations: what is known without a look at the table."""


HEADINGS = (
    "", "resemblance", "propensity", "correlations", "utility", "detection", "R² 20", "R² 500", "labels 500",
)  # fmt: skip

Upload = NDArray[np.float32]
Decode = Callable[[Upload], pd.DataFrame]


def noised(
    training: pd.DataFrame, columns: Columns, mechanism: Mechanism, skewed: tuple[str, ...]
) -> tuple[Upload, Decode]:
    """What a silo uploads under a claim, and how it decodes."""
    encoder = Encoder.draw(columns, skewed)
    return released(encoder, training, mechanism)[0], Readings.of(encoder, training).decode


def claimed(
    table: Table, training: pd.DataFrame, noise: NoiseParameters, parameters: SiloFuseParameters
) -> tuple[pd.DataFrame, list[Upload]]:
    """Synthetic rows, and the uploads behind them, of a run that asks for noise."""
    silos: list[Columns] = [{one: table.columns[one] for one in names} for names in table.silos]
    uploads, decoders = zip(
        *(noised(training, columns, noise.mechanism, noise.skewed) for columns in silos), strict=True
    )
    joined = np.concatenate(uploads, axis=1)
    widths = [upload.shape[1] for upload in uploads]
    deviations = np.repeat([deviation(noise.mechanism, one) for one in silos], widths)
    shrunk = Shrinkage.of([joined], deviations)(joined)
    sampled = train(shrunk, parameters.diffusion, silent, device="cpu").sample(len(training), silent)
    slices = np.split(sampled, np.cumsum(widths)[:-1], axis=1)
    parts = [decode(part) for decode, part in zip(decoders, slices, strict=True)]
    return pd.concat(parts, axis=1)[list(table.columns)], list(uploads)


def leaked(table: Table, training: pd.DataFrame, uploads: Sequence[Upload]) -> dict[str, float]:
    """The mean over the silos of what leaked pairs tell."""
    found = [
        inversion(upload, training, {one: table.columns[one] for one in names}).model_dump()
        for upload, names in zip(uploads, table.silos, strict=True)
    ]
    known = {key: [one[key] for one in found if one[key] is not None] for key in found[0]}
    return {key: float(np.mean(values)) for key, values in known.items() if values}


def line(what: str, scores: Resemblance, utility: float | None, auc: float, leaks: dict[str, float]) -> list[str]:
    """One row of the table."""
    figures = [scores.overall, scores.propensity, scores.correlation, utility]
    told = [leaks.get(key) for key in ("r2_20", "r2_500", "accuracy_500")]
    return [what, *(f"{one:.1f}" if one is not None else "-" for one in figures), f"{auc:.3f}",
            *(f"{one:.2f}" if one is not None else "-" for one in told)]  # fmt: skip


def silent(*_: object) -> None:
    """Nobody watches the progress."""


def main() -> None:
    parser = argparse.ArgumentParser(description="the price of a claim about every uploaded row")
    parser.add_argument("--data", type=Path, help="a folder with adult.csv and abalone.csv (and support2.csv)")
    parser.add_argument("--only", choices=[*TABLES], action="append", help="this table alone; may be repeated")
    parser.add_argument("--epsilon", type=float, action="append", help=f"{EPSILONS} unless given; may be repeated")
    parser.add_argument("--steps", type=int, default=SiloFuseParameters().steps, help="of the diffusion, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    console = Console(width=120)
    for name in arguments.only or (TABLES if arguments.data else SHIPPED):
        table = TABLES[name](arguments.data)
        training, held_out = table.split(arguments.seed)
        grid = Grid(title=f"{name}: {len(training)} rows, {len(table.silos)} silos, δ = 1e-05")
        for heading in HEADINGS:
            grid.add_column(heading, justify="right" if heading else "left")
        parameters = SiloFuseParameters(steps=arguments.steps, seed=arguments.seed)
        for epsilon in (None, *(arguments.epsilon or EPSILONS)):
            began = time.perf_counter()
            if epsilon is None:
                made = ours.make(training, table.columns, table.silos, parameters)
                synthetic, uploads = made.synthetic, made.latents
            else:
                noise = NoiseParameters(epsilon=epsilon, skewed=SKEWED[name])
                synthetic, uploads = claimed(table, training, noise, parameters)
            leaks = leaked(table, training, uploads)
            report = evaluate(training, held_out, synthetic, table.columns, table.targets, seed=arguments.seed)
            scores, alone, real = report.resemblance, report.baseline_independent, report.real_rows
            if epsilon is None:
                grid.add_row(*line("real rows", real, 100.0, real.detection_auc, {}))
            what = "no noise, no claim" if epsilon is None else f"ε = {epsilon:g}"
            grid.add_row(*line(what, scores, report.utility["overall"], report.detection_auc, leaks))
            console.print(
                f"{name}, {what}: {time.perf_counter() - began:.0f} s, memorisation {report.memorisation:.3f}"
            )
        guessing = {"r2_20": 0.0, "r2_500": 0.0, "accuracy_500": leaks["majority"]} if "majority" in leaks else {}
        grid.add_row(*line("independent columns", alone, alone.utility, alone.detection_auc, guessing))
        console.print(grid)


if __name__ == "__main__":
    main()
