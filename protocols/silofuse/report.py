"""A silo's report about its own columns: every measure there is, and how much its latents give away."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from protocols.learning.rows import Rows
from protocols.learning.schema import Columns
from protocols.silofuse.claim import DELTA, deviation_for
from protocols.silofuse.noised import Encoder
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.spec import RunSpec
from services.contract import Context, ProgressCallback
from services.errors import ConfigError

JSON, PAGE = "report.json", "report.html"
LEVELS = (200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0)
"""The ε of the curve that every report shows; a run may claim 50 and less."""


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
    facts = {"latent_inversion": leaked.model_dump(), "noise_curve": _curve(spec, seen, columns)}
    report = measured.with_facts(facts)
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


def _curve(spec: RunSpec, training: pd.DataFrame, columns: Columns) -> dict[str, Any]:
    """What leaked pairs would tell, by noise: a `NoiseCurve`'s facts."""
    from protocols.learning.evaluate.curve import noise_points  # noqa: PLC0415 - an optional extra

    noise = SiloFuseParameters.model_validate(spec.training).noise
    delta = noise.delta if noise else DELTA
    levels = {*LEVELS, *([noise.epsilon] if noise else [])}
    latents = Encoder.draw(columns, noise.skewed if noise else ()).encode(training)
    points = noise_points(latents, training, columns, {one: deviation_for(one, delta, columns) for one in levels})
    claim = {"claimed": noise.epsilon, "together": noise.together(len(spec.silos))} if noise else {}
    return {"delta": delta, **claim, "points": [point.model_dump() for point in points]}
