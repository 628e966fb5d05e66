"""Small made-up tables for three silos: other columns of the same people, or the same columns of other people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS: dict[str, dict[str, Any]] = {
    "north": {
        "age": {"type": "integer", "min": 0, "max": 120},
        "sex": {"type": "category", "categories": ["female", "male"]},
        "admitted": {"type": "date", "min": "2020-01-01", "max": "2024-12-31"},
    },
    "south": {
        "pressure": {"type": "number", "min": 0, "max": 300, "step": 0.5, "missing": True},
        "smoker": {"type": "category", "categories": ["no", "yes", "former"], "missing": True},
    },
    "west": {
        "cost": {"type": "number", "min": 0, "max": 100000},
        "died": {"type": "category", "categories": ["0", "1"]},
    },
}


def people(rows: int, seed: int = 1) -> pd.DataFrame:
    """A whole table whose columns depend on each other."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 95, rows)
    sex = rng.integers(0, 2, rows)
    pressure = np.round((90 + age * 0.6 + rng.normal(0, 10, rows)) * 2) / 2
    smoker = rng.choice(["no", "yes", "former"], rows, p=[0.6, 0.25, 0.15])
    risk = 1 / (1 + np.exp(-(age - 70) / 8 - (smoker == "yes") * 1.5))
    table = pd.DataFrame(
        {
            "person": [f"P-{number:05d}" for number in rng.permutation(rows)],
            "age": age,
            "sex": np.where(sex == 1, "male", "female"),
            "admitted": (pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D")).astype(str),
            "pressure": pressure,
            "smoker": smoker,
            "cost": np.round(np.exp(rng.normal(7, 0.6, rows)) + age * 20, 2),
            "died": (rng.random(rows) < risk).astype(int),
        }
    )
    table.loc[rng.random(rows) < 0.15, "pressure"] = np.nan
    table.loc[rng.random(rows) < 0.1, "smoker"] = None
    return table


def write_silos(folder: Path, rows: int = 120, seed: int = 1) -> dict[str, Path]:
    """One CSV per silo, shuffled differently, each lacking different people; returns where they lie."""
    whole = people(rows, seed)
    paths = {}
    for number, (silo, columns) in enumerate(COLUMNS.items()):
        part = whole[["person", *columns]].sample(frac=0.97, random_state=number)
        paths[silo] = folder / f"{silo}.csv"
        part.to_csv(paths[silo], index=False)
    return paths


def spec(rows: int = 50, **changes: Any) -> dict[str, Any]:
    """A run specification for the three silos."""
    return {
        "name": "trial",
        "protocol": "silofuse",
        "identifier": {"column": "person"},
        "silos": {silo: {"columns": columns} for silo, columns in COLUMNS.items()},
        "targets": ["died"],
        "rows": rows,
        "deadline": "1h",
        **changes,
    }


def write_shared(folder: Path, rows: int = 40) -> dict[str, Path]:
    """One CSV per silo with all columns, of people of its own; returns where they lie."""
    paths = {}
    for seed, silo in enumerate(COLUMNS):
        paths[silo] = folder / f"{silo}.csv"
        people(rows, seed).to_csv(paths[silo], index=False)
    return paths


def shared_spec(**training: Any) -> dict[str, Any]:
    """A run specification for the three silos' own people."""
    return {
        "name": "trial",
        "protocol": "sgde",
        "identifier": {"column": "person"},
        "columns": {name: column for columns in COLUMNS.values() for name, column in columns.items()},
        "silos": {silo: {} for silo in COLUMNS},
        "rows": 50,
        "deadline": "1h",
        "training": {"label": "died", "family": "moments", "epsilon": 1.5, "delta": 1e-5, "records": 40, **training},
    }
