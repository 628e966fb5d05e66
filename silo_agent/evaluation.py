"""Measures a whole synthetic table against whole real ones: for whoever may hold them, which in the field is nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from protocols.learning.evaluate.measure import evaluate
from protocols.learning.evaluate.page import render
from protocols.learning.table import read_table
from protocols.spec import RunSpec
from services.errors import ConfigError


def evaluate_files(
    console: Console, spec: RunSpec, *, real: Path, holdout: Path, synthetic: Path, out: Path, facts: Path | None
) -> None:
    """Write `report.json` and `report.html` about tables in files.

    Raises:
        DataError: a table contradicts the specification's schema.
        ConfigError: the facts are not a report's, or the `evaluation` extra is not installed.
    """
    training, held_out, made = (read_table(path, spec.every_column, None)[1] for path in (real, holdout, synthetic))
    with Progress(
        TextColumn("  {task.description}"), BarColumn(40), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(),
        console=console,
    ) as bar:  # fmt: skip
        task = bar.add_task("measuring", total=None)

        def progress(phase: str, step: int, total: int, _loss: float | None) -> None:
            bar.update(task, description=phase, completed=step, total=total)

        report = evaluate(training, held_out, made, spec.every_column, spec.targets, progress=progress)
        if facts is not None:
            try:
                report = report.with_facts(json.loads(facts.read_text(encoding="utf-8")))
            except (OSError, ValueError, ValidationError) as error:
                raise ConfigError(
                    f"{facts} holds no facts of a report", fix="give JSON with latent_inversion, seconds, bytes_sent"
                ) from error
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
        bar.update(task, description="drawing the report")
        render(
            report,
            pd.concat([training, held_out], ignore_index=True),
            made,
            spec.every_column,
            out / "report.html",
            title=f"Synthetic table of {spec.name}",
            provenance={"Run specification": spec.name, "Protocol": spec.protocol, "Silos": ", ".join(spec.silos)},
            note="Measured on a joined real table, which in the field nobody may hold.",
        )
    console.print(f"The report is {out / 'report.html'}")
