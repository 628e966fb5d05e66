"""The end of the demo: facts that only the whole federation knows, and a table of scores beside the baseline."""

from __future__ import annotations

from datetime import datetime
from statistics import mean
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

Facts = dict[str, Any]


def joint_facts(coordinator: Facts, silos: dict[str, Facts], reports: dict[str, Facts]) -> Facts:
    """Seconds per phase, bytes per silo, and the silos' measured inversion (the mean over them)."""
    steps = {step["step"]: step for step in coordinator["steps"]}
    local = {silo: {step["step"]: step for step in facts["steps"]} for silo, facts in silos.items()}
    began = max(_time(steps_["join"]["finished"]) for steps_ in local.values())
    aligned = max(_time(step["finished"]) for name, step in steps.items() if name.startswith("order."))
    ended = max(_time(facts["ended"]) for facts in silos.values())
    inversion = [report["latent_inversion"] for report in reports.values()]
    return {
        "latent_inversion": {key: round(mean(one[key] for one in inversion), 3) for key in ("r2_20", "r2_500")},
        "seconds": {
            "align": round(aligned - began, 1),
            "autoencoders": round(max(steps_["latents"]["seconds"] for steps_ in local.values()), 1),
            "diffusion": round(steps["diffusion"]["seconds"], 1),
            "sampling": round(steps["sampling"]["seconds"], 1),
            "total": round(ended - _time(coordinator["created"]), 1),
        },
        "bytes_sent": {silo: sum(sent["bytes"] for sent in facts["sent"]) for silo, facts in silos.items()},
    }


def print_scores(console: Console, report: Facts) -> None:
    """The scores beside the independence baseline, and the truth about privacy."""
    scores, baseline = report["resemblance"], report["baseline_independent"]
    table = Table(title="Synthetic patients, measured against held-out ones", title_justify="left", header_style="bold")
    table.add_column("measure")
    for heading in ("SiloFuse", "independent columns", "best possible"):
        table.add_column(heading, justify="right")
    rows = [
        ("resemblance", scores["overall"], baseline["overall"], "100"),
        ("  columns alike", scores["column"], baseline.get("column"), "100"),
        ("  correlations alike", scores["correlation"], baseline.get("correlation"), "100"),
        ("  1 - Jensen-Shannon", scores["js"], baseline.get("js"), "100"),
        ("  1 - Kolmogorov-Smirnov", scores["ks"], baseline.get("ks"), "100"),
        ("  propensity", scores["propensity"], baseline["propensity"], "100"),
        ("utility", report["utility"]["overall"], baseline["utility"], "100"),
        ("detection AUC", report["detection_auc"], baseline.get("detection_auc"), "0.50"),
        ("memorisation", report["memorisation"], baseline.get("memorisation"), "0.50"),
    ]
    for name, ours, theirs, best in rows:
        table.add_row(name, _number(ours), _number(theirs), best)
    console.print(table)
    phases = "  ".join(f"{phase} {value:g}" for phase, value in report["seconds"].items())
    senders = "  ".join(f"{silo} {value:,}" for silo, value in report["bytes_sent"].items())
    console.print(f"[bold]seconds[/]     {phases}", highlight=False, soft_wrap=True)
    console.print(f"[bold]bytes sent[/]  {senders}", highlight=False, soft_wrap=True)
    inversion = report["latent_inversion"]
    console.print(
        Panel(
            "The latents carry [bold]no differential privacy[/]: encryption hides them from everybody but the "
            "coordinator. Whoever has them and 20 (500) matching rows recovers numbers at "
            f"[bold]R² {inversion['r2_20']:.2f} ({inversion['r2_500']:.2f})[/]. "
            "Synthetic rows can resemble real people; the report says how far attacks on them got.",
            title="The privacy truth",
            border_style="yellow",
        )
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value <= 1 else f"{value:.1f}"


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
