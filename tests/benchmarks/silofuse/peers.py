"""Runs a peer in its own environment, and brings back what it made in our types."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from protocols.learning.schema import Category, Column, Columns, Integer
from protocols.learning.table import conform
from services.errors import ConfigError, SilokitError

PYTHON = Path(".venv-peers/bin/python")
SCRIPT = Path(__file__).parent / "peer.py"


def make(training: pd.DataFrame, columns: Columns, request: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As many synthetic rows as training rows, and what the peer's script says of them.

    Args:
        training: in canonical types.
        columns: the public schema.
        request: `model`, `seed`, `threads`, `epochs`, `budget`, see `peer`.

    Raises:
        SilokitError: the peer did not end well.
    """
    if not PYTHON.exists():
        raise ConfigError(f"there is no {PYTHON}", fix="make peers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        types = {name: "categorical" if isinstance(c, Category) else "numerical" for name, c in columns.items()}
        whole = {**request, "rows": len(training), "columns": types}
        (folder / "request.json").write_text(json.dumps(whole))
        plain = pd.DataFrame({name: _plain(training[name], column) for name, column in columns.items()})
        plain.to_parquet(folder / "training.parquet", index=False)
        done = subprocess.run([PYTHON, SCRIPT, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SilokitError(f"{request['model']} failed:\n{done.stderr[-2000:]}")
        made = pd.read_parquet(folder / "synthetic.parquet")
        table = pd.DataFrame({name: _kept(made[name], column) for name, column in columns.items()})
        return conform(table, columns), json.loads((folder / "result.json").read_text())


def _plain(values: pd.Series, column: Column) -> pd.Series:
    """Values as SDV documents its input: labels as text, quantities as floats, missing as null."""
    if isinstance(column, Category):
        return values.astype(object).where(values.notna(), None)
    return values.astype("float64")


def _kept(values: pd.Series, column: Column) -> pd.Series:
    """A quantity within the public bounds, whole where the schema wants that."""
    if isinstance(column, Category):
        return values
    inside = values.clip(column.min, column.max)
    return inside.round() if isinstance(column, Integer) else inside
