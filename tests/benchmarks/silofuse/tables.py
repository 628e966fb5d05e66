"""The three tables of the SiloFuse benchmark: what is declared of them in public, who holds which columns, the split.

Grids are those to which the quantities were recorded, bounds round numbers that such quantities keep within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from deploy.demo.support2 import fetch, specification, tidied
from protocols.learning.schema import Columns
from protocols.learning.table import conform
from services.errors import ConfigError
from tests.benchmarks import sgde_tables
from tests.benchmarks.sgde_tables import category, integer

Blocks = tuple[tuple[str, ...], ...]
CACHE = Path(".cache")
SPLIT, PERMUTATION = 0, 1  # streams of a seed


@dataclass(frozen=True)
class Table:
    """A table, and what is done with it.

    Attributes:
        rows: in canonical types.
        columns: the public schema.
        targets: columns whose prediction is the test of usefulness, the one that people ask for first.
        silos: the columns of each silo.
        training, held_out: how many rows of each a split draws.
    """

    rows: pd.DataFrame
    columns: Columns
    targets: tuple[str, ...]
    silos: Blocks
    training: int
    held_out: int

    def split(self, seed: int, training: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Training and held-out rows, drawn by the seed; fewer training rows where that is asked."""
        order = np.random.default_rng([seed, SPLIT]).permutation(len(self.rows))
        parts = order[: self.training][:training], order[self.training : self.training + self.held_out]
        train, held_out = (self.rows.iloc[part].reset_index(drop=True) for part in parts)
        return train, held_out


def blocks(names: Sequence[str], silos: int) -> Blocks:
    """Columns shared out over silos in contiguous blocks, the first ones larger by a column where they must differ.

    Raises:
        ConfigError: a silo would have no column.
    """
    if not 1 <= silos <= len(names):
        raise ConfigError(f"{len(names)} columns cannot be shared out over {silos} silos")
    return tuple(tuple(names[place] for place in part) for part in np.array_split(np.arange(len(names)), silos))


def permuted(names: Sequence[str], seed: int) -> tuple[str, ...]:
    """Columns in an order drawn by the seed."""
    return tuple(names[place] for place in np.random.default_rng([seed, PERMUTATION]).permutation(len(names)))


def adult(folder: Path | None) -> Table:
    """Census incomes: 12,000 and 6,000 of 32,561 people, 15 columns over four silos."""
    task = sgde_tables.adult(_required(folder, "adult.csv"))
    targets = (task.label, "age", "sex", "occupation")
    return Table(task.table, task.columns, targets, blocks(list(task.columns), 4), 12_000, 6000)


def abalone(folder: Path | None) -> Table:
    """4,176 shellfish and their rings, 9 columns over four silos."""
    csv = pd.read_csv(_required(folder, "abalone.csv") / "abalone.csv")
    length, weight = {"type": "number", "min": 0, "step": 0.005}, {"type": "number", "min": 0, "step": 0.0005}
    declared = {
        "sex": category("F", "I", "M"),
        "length": {**length, "max": 1},
        "diameter": {**length, "max": 1},
        "height": {**length, "max": 1.5},
        "whole_weight": {**weight, "max": 4},
        "shucked_weight": {**weight, "max": 2},
        "viscera_weight": {**weight, "max": 1},
        "shell_weight": {**weight, "max": 1.5},
        "label": integer(1, 30),  # rings
    }
    columns = TypeAdapter(Columns).validate_python(declared)
    return _parted(conform(csv, columns), columns, ("label",), blocks(list(columns), 4))


def support2(folder: Path | None) -> Table:
    """9,105 seriously ill patients, 48 columns over the demo's three silos."""
    given = folder / "support2.csv" if folder else None
    spec = specification()
    rows = tidied(given if given and given.exists() else fetch(CACHE), spec.every_column)
    silos = tuple(tuple(part.columns) for part in spec.silos.values())
    return _parted(conform(rows, spec.every_column), spec.every_column, tuple(spec.targets), silos)


def _parted(rows: pd.DataFrame, columns: Columns, targets: tuple[str, ...], silos: Blocks) -> Table:
    training = round(0.8 * len(rows))
    return Table(rows, columns, targets, silos, training, len(rows) - training)


def _required(folder: Path | None, name: str) -> Path:
    if folder is None or not (folder / name).exists():
        raise ConfigError(f"there is no {name}", fix="give the folder that holds it: --data DIR")
    return folder


TABLES: dict[str, Callable[[Path | None], Table]] = {"adult": adult, "abalone": abalone, "support2": support2}
SHIPPED = ("support2",)
"""What needs no folder of data."""
