"""The benchmark's tables on a terminal, and in a file as wide as they need to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.silofuse.gates import Verdict
from tests.benchmarks.silofuse.models import MODELS
from tests.benchmarks.silofuse.summary import (
    EVERYWHERE,
    PRIVACY_AND_COST,
    QUALITY,
    Figure,
    Measure,
    Row,
    Summary,
    heading,
)

NOTHING = "\N{EN DASH}"
WIDTH = 175
"""Columns that the widest table takes."""


def written(figure: Figure | None, digits: int) -> str:
    """A mean, with its spread where there is one."""
    if figure is None:
        return NOTHING
    spread = "" if figure.spread is None else f" ±{figure.spread:.{digits}f}"
    return f"{figure.mean:,.{digits}f}{spread}"


def tables_of(summary: Summary) -> list[str]:
    """The tables in it, in order; the mean over them last."""
    names = list(dict.fromkeys(table for table, _ in summary))
    return [*(name for name in names if name != EVERYWHERE), *(name for name in names if name == EVERYWHERE)]


def rows_of(summary: Summary, table: str) -> dict[str, Row]:
    """A table's models in their order."""
    return {model: summary[table, model] for model in MODELS if (table, model) in summary}


def _table(title: str, rows: Mapping[str, Row], measures: Mapping[str, Measure]) -> Table:
    out = Table(title=title, title_justify="left", header_style="bold", padding=(0, 1, 0, 0), box=None)
    out.add_column("model", vertical="bottom", no_wrap=True)
    for measure in measures.values():
        out.add_column(measure.title, justify="right", vertical="bottom", no_wrap=True)
    for model, row in rows.items():
        count = row["resemblance"].count
        cells = [written(row.get(name), measure.digits) for name, measure in measures.items()]
        out.add_row(f"{model} [dim](n={count})[/]", *cells, style="bold" if model == "opaque" else "")
    return out


def show(summary: Summary, verdicts: Sequence[Verdict], console: Console) -> None:
    """Print all tables, and the gates."""
    for table in tables_of(summary):
        rows = rows_of(summary, table)
        for what, measures in (("quality", QUALITY), ("privacy and cost", PRIVACY_AND_COST)):
            shown = {name: one for name, one in measures.items() if any(name in row for row in rows.values())}
            console.print(_table(f"\n{heading(table)}: {what}", rows, shown))
    out = Table(title="\nGates", title_justify="left", header_style="bold", padding=(0, 1, 0, 0), box=None)
    for title in ("figure", "", "bound", "", "goal", ""):
        out.add_column(title, justify="right" if title in {"bound", "goal"} else "left", no_wrap=True)
    for verdict in verdicts:
        gate = verdict.gate
        value = "not measured" if verdict.value is None else f"{verdict.value:,.{gate.digits}f}"
        bounds = [_bound(gate.bound, least=gate.least), _bound(gate.goal, least=gate.least)]
        said = [
            _said(verdict.met, "[green]met[/]", "[bold red]NOT MET[/]"),
            _said(verdict.reached, "reached", "not reached"),
        ]
        out.add_row(gate.what, value, bounds[0], said[0], bounds[1], said[1])
    console.print(out)


def _bound(bound: float | None, *, least: bool) -> str:
    return "" if bound is None else f"{'≥' if least else '≤'} {bound:,g}"


def _said(holds: bool | None, yes: str, no: str) -> str:
    return "" if holds is None else yes if holds else no
