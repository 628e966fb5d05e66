"""A silo's report about its own columns: every measure there is, and how much its latents give away."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from protocols.learning.rows import Rows
from protocols.spec import RunSpec
from services.contract import Context, ProgressCallback
from services.errors import ConfigError

JSON, PAGE = "report.json", "report.html"


def available() -> bool:
    """Whether the `evaluation` extra is installed."""
    try:
        return importlib.util.find_spec("protocols.learning.evaluate.measure") is not None
    except ConfigError:
        return False


def write(
    context: Context,
    spec: RunSpec,
    training: Rows,
    held_out: Rows,
    synthetic: Rows,
    *,
    latents: npt.NDArray[np.float32],
    progress: ProgressCallback,
) -> None:
    """Write `report.json` and `report.html` into the workspace.

    Args:
        context: the run as this silo knows it.
        spec: its specification.
        training: the silo's common training rows.
        held_out: its common rows that no training saw.
        synthetic: its decoded synthetic rows.
        latents: what it uploaded, a row per training row.
        progress: as `Work` says.
    """
    from protocols.learning.evaluate.arrays import drawn  # noqa: PLC0415 - an optional extra
    from protocols.learning.evaluate.inversion import inversion  # noqa: PLC0415
    from protocols.learning.evaluate.measure import evaluate  # noqa: PLC0415
    from protocols.learning.evaluate.page import render  # noqa: PLC0415

    columns = spec.columns_of(context.me)
    measured = evaluate(training, held_out, synthetic, columns, spec.targets, progress=progress)
    seen, unseen, made = (table.take(drawn(table)) for table in (training, held_out, synthetic))
    leaked = inversion(latents[drawn(training)], seen, columns)
    report = measured.with_facts({"latent_inversion": leaked.model_dump()})
    target: Path = context.workspace
    (target / JSON).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    render(
        report,
        pd.concat([seen, unseen], ignore_index=True),
        made,
        columns,
        target / PAGE,
        title=f"Synthetic columns of {context.me}",
        provenance={"Run": context.run, "Protocol": spec.protocol, "Silo": context.me},
        note="This report is about one silo's own columns and derives from its private rows: it stays in the house.",
    )
