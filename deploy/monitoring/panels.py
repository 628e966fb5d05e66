"""A small vocabulary for dashboards, and its translation into Grafana's by the Grafana Foundation SDK.

A board is rows of panels on a grid of 24 columns; a panel shows one or two PromQL expressions. What a board needs
beyond that it does without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as query
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

COLUMNS = 24
Kind = Literal["stat", "lines", "timeline", "bars", "table"]
Threshold = tuple[float | None, str]
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${source}")


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows, in a few words.
        about: what to read from it.
        kind: `stat`, a number; `lines`, over time; `timeline`, yes or no over time; `bars`, now; `table`, the labels.
        queries: expressions, each with the pattern of its legend; of a table one, and the labels that are its columns.
        unit: Grafana's name for it.
        width: of 24 columns.
        height: in grid units of about 30 pixels.
        thresholds: from which value on which colour counts, the lowest first and without a value.
        most: the end of the scale, where the scale has one.
        answers: of a timeline, the colours of no and yes.
    """

    title: str
    about: str
    kind: Kind
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    width: int = 8
    height: int = 7
    thresholds: Sequence[Threshold] = ()
    most: float | None = None
    answers: tuple[str, str] = ("red", "green")


@dataclass(frozen=True)
class Board:
    """One dashboard.

    Attributes:
        name: of its file, and its identifier in Grafana.
        title: what people call it.
        about: for whom it is.
        rows: headings, each with its panels from left to right, and on as many lines as they need.
        parties: the expression's selector for the parties that can be chosen; None offers no choice.
    """

    name: str
    title: str
    about: str
    rows: Mapping[str, Sequence[Panel]]
    parties: str | None = None


def document(board: Board) -> str:
    """The dashboard as Grafana reads it, JSON."""
    made = (
        build.Dashboard(board.title)
        .uid(f"silokit-{board.name}")
        .description(board.about)
        .tags(["silokit"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(build.DashboardLink("silokit").type(model.DashboardLinkType.DASHBOARDS).tags(["silokit"]).keep_time(True))
        .with_variable(build.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    if board.parties is not None:
        made.with_variable(_party(board.parties))
    number = y = 0
    for heading, panels in board.rows.items():
        number += 1
        made.with_row(build.Row(heading).id(number).grid_pos(model.GridPos(h=1, w=COLUMNS, x=0, y=y)))
        y += 1
        x = height = 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            position = model.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            made.with_panel(_panel(panel).id(number).grid_pos(position))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _party(selector: str) -> build.QueryVariable:
    return (
        build.QueryVariable("party")
        .label("Party")
        .datasource(SOURCE)
        .query(f"label_values({selector}, party)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


def _panel(panel: Panel) -> Any:
    made = _timeline(*panel.answers) if panel.kind == "timeline" else _KINDS[panel.kind]()
    made.title(panel.title).description(panel.about).datasource(SOURCE).unit(panel.unit)
    for letter, (expression, legend) in zip("ABC", panel.queries, strict=False):
        target = query.Dataquery().expr(expression).ref_id(letter).legend_format(legend)
        if panel.kind == "table":
            target.format(PromQueryFormat.TABLE)
        made.with_target(target.range() if panel.kind in {"lines", "timeline"} else target.instant())
    if panel.most is not None:
        made.min(0).max(panel.most)
    if panel.thresholds:
        steps = [model.Threshold(value=value, color=colour) for value, colour in panel.thresholds]
        made.thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.kind == "table":
        made.with_transformation(_columns(panel.queries[0][1].split()))
    return made


def _lines() -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(look.LegendDisplayMode.LIST)
    return (
        timeseries.Panel()
        .fill_opacity(8)
        .line_width(1.5)
        .show_points(look.VisibilityMode.NEVER)
        .legend(legend.placement(look.LegendPlacement.BOTTOM).show_legend(True))
        .tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
    )


def _bars() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .orientation(look.VizOrientation.HORIZONTAL)
        .display_mode(look.BarGaugeDisplayMode.BASIC)
        .reduce_options(_now())
    )


def _timeline(no: str, yes: str) -> statetimeline.Panel:
    answers = {
        "0": model.ValueMappingResult(text="no", color=no, index=0),
        "1": model.ValueMappingResult(text="yes", color=yes, index=1),
    }
    return statetimeline.Panel().show_value(look.VisibilityMode.NEVER).mappings([model.ValueMap(options=answers)])


def _stat() -> stat.Panel:
    return stat.Panel().reduce_options(_now()).graph_mode(look.BigValueGraphMode.NONE)


def _now() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _columns(labels: Sequence[str]) -> model.DataTransformerConfig:
    """Show these labels and nothing else, in this order."""
    return model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(labels)}})


_KINDS: Mapping[Kind, Any] = {
    "stat": _stat, "lines": _lines, "bars": _bars, "table": table.Panel,
}  # fmt: skip
