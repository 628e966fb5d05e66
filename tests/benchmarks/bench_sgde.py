"""What a pool of private generators is worth: the paper's Table I, with Local and Federated in the same run.

20 silos hold 5% each of the training rows, shuffled (90% of the table; 10% are the test). Each spends ε <= 1.5 once on
one generator of each family. A logistic regression is trained

- `local`: on a silo's own rows; on local data by 10-fold cross-validation;
- `federated`: by FedAvg, without privacy; on local data on a tenth of each silo kept out of it;
- `FAMILY even`, `FAMILY pool`: on the pool's rows, as many of each class, or in the shares that the pool's noisy counts
  tell; on local data on every silo's whole table, as the paper does;
- `FAMILY +own`: on the pool's rows (in its shares) and the silo's own, weighing alike; on local data by 10-fold
  cross-validation of the own.

    python -m tests.benchmarks.bench_sgde --data DIR        # without DIR: what needs no data, Breast Cancer
    python -m tests.benchmarks.bench_sgde --short           # one seed
    python -m tests.benchmarks.bench_sgde --data DIR --only wine --family logistic

Then: of 10 generators one is made from flipped labels, or with a backdoor; how often is it flagged (`score.py`), and
how often is an honest one? Prints mean and standard deviation over the seeds, in percent.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from protocols.learning.noise import Noise
from protocols.sgde.families import family
from protocols.sgde.generator import Description, Generator, sample, shares
from protocols.sgde.parameters import FamilyName
from protocols.sgde.score import score
from tests.benchmarks.sgde_models import Result, Rows, by_silo, federated, rows, synthetic
from tests.benchmarks.sgde_tables import SHIPPED, TASKS, Task

SILOS, SYNTHETIC = 20, 4000
FAMILIES: tuple[FamilyName, ...] = ("moments", "logistic", "tan", "vae")
PUBLISHED = {
    "titanic": {"local": (75.67, 19.43, 75.70), "federated": (76.67, 69.89, 69.38), "synthetic": (80.87, 63.37, 78.35)},
    "breast-cancer": {
        "local": (89.67, 93.37, 99.17),
        "federated": (89.50, 84.16, 98.75),
        "synthetic": (97.09, 97.81, 99.27),
    },
    "adult": {"local": (80.64, 49.69, 83.30), "federated": (76.01, 47.95, 79.81), "synthetic": (79.65, 61.64, 83.73)},
    "wine": {"local": (93.46, 82.98, 99.44), "federated": (90.44, 85.81, 99.10), "synthetic": (98.54, 97.10, 99.49)},
}
"""Table I of arXiv 2109.12062: accuracy, F1, AUC on local data."""
POISONED: dict[str, tuple[FamilyName, str]] = {"adult": ("tan", "race"), "wine": ("moments", "quality")}
"""The family whose pool is poisoned, and the column that a backdoor's mark is on."""


def split(task: Task, seed: int) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The test, and the silos' tables."""
    order = np.random.default_rng(seed).permutation(len(task.table))
    cut = len(order) // 10
    parts = [order[:cut], *np.array_split(order[cut:], SILOS)]
    test, *silos = [task.table.iloc[part].reset_index(drop=True) for part in parts]
    return test, silos


def made(task: Task, name: FamilyName, silos: Sequence[pd.DataFrame]) -> list[Generator]:
    """A generator of each silo."""
    parameters = task.parameters(name, len(task.table) * 9 // 10 // SILOS)
    description, noise = Description(columns=task.columns, parameters=parameters), Noise()
    return [
        Generator(description, family(name).fit(silo, task.columns, parameters, noise, lambda *_: None)[0])
        for silo in silos
    ]


def utility(task: Task, seed: int, crossed: int, families: Sequence[FamilyName]) -> dict[str, Result]:
    """All rows of the table for one seed."""
    test_table, tables = split(task, seed)
    test, silos = rows(test_table, task), [rows(table, task) for table in tables]
    results = {"local": by_silo(test, silos[:crossed]), "federated": federated(test, silos)}
    for name in families:
        pool = made(task, name, tables)
        told = {label: round(2 * SYNTHETIC * share) for label, share in shares(pool).items()}
        by_share: Rows = rows(sample(pool, told), task)
        results[f"{name} even"] = synthetic(rows(sample(pool, SYNTHETIC), task), test, silos)
        results[f"{name} pool"] = synthetic(by_share, test, silos)
        every = slice(None, None, 4)
        results[f"{name} +own"] = by_silo(test, silos[:crossed], (by_share[0][every], by_share[1][every]))
    return results


def poison(task: Task, table: pd.DataFrame, mark: str, how: str) -> pd.DataFrame:
    """A silo's table with every label flipped, or with a backdoor: a tenth of the rows marked, all of one class."""
    labels = task.table[task.label].cat.categories
    out = table.copy()
    if how == "flip":
        out[task.label] = table[task.label].cat.rename_categories(dict(zip(labels, labels[::-1], strict=True)))
        out[task.label] = out[task.label].cat.set_categories(labels)
        return out
    chosen = out.index % 10 == 0
    rare = task.table[mark].value_counts().index[-1]
    out.loc[chosen, mark], out.loc[chosen, task.label] = rare, task.positive
    return out


def detection(task: Task, name: FamilyName, mark: str, seeds: range) -> None:
    """How often a poisoned generator is flagged by the silos whose generators are honest, and an honest one."""
    for how in ("flip", "backdoor"):
        caught, wrong = [], []
        for seed in seeds:
            _, tables = split(task, seed)
            tables = tables[:10]
            tables[0] = poison(task, tables[0], mark, how)
            pool = {str(number): generator for number, generator in enumerate(made(task, name, tables))}
            for silo in (1, 2, 3):
                found = score(tables[silo], pool)
                caught.append(found["0"].flagged)
                wrong += [one.flagged for number, one in found.items() if number != "0"]
        print(
            f"  {how:9} in 1 of 10, {name}: flagged {np.mean(caught):6.1%} | honest ones flagged {np.mean(wrong):6.1%}"
        )


def show(task_name: str, found: dict[str, list[Result]]) -> None:
    """A table of means and spreads."""
    print(
        f"  {'':14} {'local data: accuracy':>22} {'F1':>12} {'AUC':>12} {'| test: accuracy':>18} {'F1':>12} {'AUC':>12}"
    )
    for row, results in found.items():
        cells = []
        for where in ("local", "test"):
            values = np.stack([getattr(result, where) for result in results])
            cells += [f"{mean:5.2f} ±{spread:4.2f}" for mean, spread in zip(values.mean(0), values.std(0), strict=True)]
        print(f"  {row:14} {cells[0]:>22} {cells[1]:>12} {cells[2]:>12} {cells[3]:>18} {cells[4]:>12} {cells[5]:>12}")
    for row, (accuracy, f1, area) in PUBLISHED[task_name].items():
        print(f"  paper {row:10} {accuracy:20.2f} {f1:12.2f} {area:12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="the worth of a pool of private generators")
    parser.add_argument("--data", type=Path, help="a folder with titanic.csv, adult.csv, wine-red.csv, wine-white.csv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--crossed", type=int, default=SILOS, help="silos that train models of their own rows")
    parser.add_argument("--only", choices=[*TASKS], action="append", help="this table alone; may be repeated")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="this family alone; may be repeated")
    parser.add_argument("--short", action="store_true", help="one seed, and cross-validation in 4 silos")
    arguments = parser.parse_args()
    # a silo of 40 rows may have one class in a fold: its AUC is left out of the mean
    warnings.filterwarnings("ignore", message="Only one class|Mean of empty slice|X has feature names")
    torch.set_num_threads(1)
    seeds = range(1 if arguments.short else arguments.seeds)
    families, crossed = arguments.family or FAMILIES, 4 if arguments.short else arguments.crossed
    names = [name for name in arguments.only or TASKS if arguments.data or name in SHIPPED]
    for name in names:
        began, task = time.perf_counter(), TASKS[name](arguments.data)
        parameters = task.parameters("tan", len(task.table) * 9 // 10 // SILOS)
        print(f"{name}: {len(task.table)} rows, {SILOS} silos, ε = {parameters.epsilon}, δ = {parameters.delta:g}")
        found: dict[str, list[Result]] = defaultdict(list)
        for seed in seeds:
            for row, result in utility(task, seed, crossed, families).items():
                found[row].append(result)
        show(name, found)
        if name in POISONED:
            detection(task, *POISONED[name], seeds)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
