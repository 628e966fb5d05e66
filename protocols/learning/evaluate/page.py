"""One self-contained page for people: no script, nothing from elsewhere, light or dark, on a telephone or on paper.

It shows real rows only as shares of bins and labels and as relations of columns, never one by one; still it derives
from them without a privacy claim and stays with those who may see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from protocols.learning.evaluate.arrays import matrix
from protocols.learning.evaluate.pictures import curve, matrices, panels
from protocols.learning.evaluate.report import MEMORISED, Report
from protocols.learning.schema import Columns
from services.files import write_atomic

NOTHING = "\N{EN DASH}"


def render(
    report: Report,
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    columns: Columns,
    path: Path,
    *,
    title: str,
    provenance: Mapping[str, str],
    note: str = "",
) -> None:
    """Write the page.

    Args:
        report: what was measured.
        real: the rows to draw beside synthetic ones: training and held-out together, in canonical types.
        synthetic: the synthetic rows.
        columns: the public schema.
        path: the file to write.
        title: what the table is.
        provenance: lines for the head of the page: run, protocol, party, time.
        note: whom the page is for, in a sentence or two.
    """
    ours, theirs = matrix(real, columns), matrix(synthetic, columns)
    environment = Environment(loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"score": _score, "rate": _rate, "percent": _percent}
    text = environment.get_template("report.html").render(
        report=report,
        panels=panels(ours, theirs, columns),
        matrices=matrices(ours, theirs, columns) if len(columns) > 1 else None,
        missing={"real": float(np.isnan(ours).mean()), "synthetic": float(np.isnan(theirs).mean())},
        memorised=MEMORISED,
        curve=curve(report.noise_curve) if report.noise_curve else None,
        title=title,
        provenance=provenance,
        note=note,
    )
    write_atomic(path, text.encode())


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def _percent(value: float | None) -> str:
    if value is None:
        return NOTHING
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 < value < 1:
        return ">99.9%"
    return f"{100 * value:.1f}%" if 0 < value < 0.1 or 0.99 < value < 1 else f"{100 * value:.0f}%"
