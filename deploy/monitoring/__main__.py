"""Writes anew what is generated for monitoring: `python -m deploy.monitoring`."""

from __future__ import annotations

from pathlib import Path

from deploy.monitoring.boards import BOARDS
from deploy.monitoring.panels import document
from services.metrics import table

HERE = Path(__file__).parent

METRICS = f"""\
# Metrics

Generated from `services/metrics.py` by `python -m deploy.monitoring`. Every series also bears the label `party`, the
name of the party that shows it. The usual `process_*` metrics of Prometheus's client stand beside them.

{table()}"""


def generated() -> dict[Path, str]:
    """Every generated file and its text."""
    boards = {HERE / "dashboards" / f"{board.name}.json": document(board) for board in BOARDS}
    return {HERE / "METRICS.md": METRICS, **boards}


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
