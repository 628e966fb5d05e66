"""The benchmark's page: one file without scripts, in the style of the reports that silos make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from protocols.learning import evaluate
from services.files import write_atomic
from tests.benchmarks.silofuse import plots
from tests.benchmarks.silofuse.gates import Verdict
from tests.benchmarks.silofuse.models import MODELS
from tests.benchmarks.silofuse.show import rows_of, tables_of, written
from tests.benchmarks.silofuse.summary import EVERYWHERE, PRIVACY_AND_COST, QUALITY, Summary, heading

STYLES = Path(evaluate.__file__).parent
TEMPLATES = Path(__file__).parent


def render(summary: Summary, verdicts: Sequence[Verdict], about: Mapping[str, str], path: Path) -> None:
    """Write the page."""
    tables = {heading(table): rows_of(summary, table) for table in tables_of(summary)}
    single = {title: rows for title, rows in tables.items() if title != heading(EVERYWHERE)}
    environment = Environment(loader=FileSystemLoader([TEMPLATES, STYLES]), autoescape=True, undefined=StrictUndefined)
    environment.globals |= {"written": written}
    text = environment.get_template("page.html").render(
        about=about,
        verdicts=verdicts,
        tables=tables,
        groups={"Quality": QUALITY, "Privacy and cost": PRIVACY_AND_COST},
        models={model: MODELS[model].about for model in MODELS if any(model in rows for rows in tables.values())},
        quality={title: plots.by_model(rows, plots.QUALITY) for title, rows in tables.items()},
        leaks={title: plots.by_model(rows, plots.LEAKS) for title, rows in single.items()},
        inversion=plots.inversion(single),
        detection=plots.against_time(single, "detection"),
        resemblance=plots.against_time(single, "resemblance"),
    )
    write_atomic(path, text.encode())
