"""Writes anew what is generated for monitoring: `python -m deploy.monitoring`."""

from __future__ import annotations

from pathlib import Path

from services.metrics import table

HERE = Path(__file__).parent

METRICS = f"""\
# Metrics

Generated from `services/metrics.py` by `python -m deploy.monitoring`. Every series also bears the label `party`, the
name of the party that shows it. The usual `process_*` metrics of Prometheus's client stand beside them.

{table()}"""


def write() -> None:
    """Write every generated file."""
    (HERE / "METRICS.md").write_text(METRICS, encoding="utf-8")


if __name__ == "__main__":
    write()
