"""The page's plots: quality by model, quality against time, what may leak. Inline SVG in the page's own colours."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, ScalarFormatter

from tests.benchmarks.silofuse.models import INDEPENDENT, MODELS, REAL
from tests.benchmarks.silofuse.summary import MEASURES, Figure, Row

# stand-ins that `_svg` replaces by the page's variables, which are light or dark
INK, SOFT, LINE, OURS, PEER, YARDSTICK = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    OURS: "var(--synthetic)",
    PEER: "var(--real)",
    YARDSTICK: "var(--alone)",
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "silokit",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}
ROW, WIDTH = 0.29, 11.2
"""Inches of a model's row, and of a plot."""
NEAR = 2.2
"""Names of models whose seconds differ by less than this factor would overlap."""


@dataclass(frozen=True)
class Plot:
    """A measure's panel: its title, and lines at values that mean something."""

    measure: str
    title: str
    marks: tuple[float, ...] = ()


QUALITY = (
    Plot("resemblance", "resemblance, of 100 →"),
    Plot("propensity", "propensity, of 100 →"),
    Plot("detection", "← detection AUC", (0.5,)),
    Plot("utility", "utility, of 100 →"),
)
LEAKS = (
    Plot("memorisation", "memorisation (0.5 ideal)", (0.5, 0.55)),
    Plot("singling_out", "← singling out", (0.0,)),
    Plot("linkability", "← linkability", (0.0,)),
    Plot("inference", "← inference", (0.0,)),
)


def colour(model: str) -> str:
    """By whose model it is."""
    return OURS if MODELS[model].form else PEER if MODELS[model].peer else YARDSTICK


def by_model(rows: Mapping[str, Row], panels: tuple[Plot, ...]) -> str:
    """A row of dots per model and a panel per measure; whiskers are a standard deviation over seeds."""
    with rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 0.75 + ROW * len(rows)), layout="constrained")
        models = list(rows)
        shared: Axes | None = None
        for place, panel in enumerate(panels):
            axes = canvas.add_subplot(1, len(panels), place + 1, sharey=shared)
            shared = shared or axes
            axes.set_title(panel.title)
            for at in panel.marks:
                axes.axvline(at, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
            if panel.measure != "memorisation" and (real := rows.get(REAL, {}).get(panel.measure)):
                axes.axvline(real.mean, color=YARDSTICK, linewidth=1)
            for height, model in enumerate(models):
                if figure := rows[model].get(panel.measure):
                    _dot(axes, figure, height, colour(model))
            axes.set_yticks(range(len(models)), models)
            axes.tick_params(length=0, labelleft=place == 0)
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axes.margins(x=0.08)
        if shared is not None:
            shared.set_ylim(len(models) - 0.5, -0.5)
        return _svg(canvas)


def _dot(axes: Axes, figure: Figure, height: float, shade: str) -> None:
    axes.errorbar(
        figure.mean,
        height,
        xerr=figure.spread,
        fmt="o",
        color=shade,
        markersize=6.5,
        elinewidth=1.6,
        capsize=0,
        zorder=3,
    )


def against_time(tables: Mapping[str, Mapping[str, Row]], measure: str) -> str:
    """A measure against seconds of training, a panel per table; real rows and independent columns as lines."""
    with rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 3.9), layout="constrained")
        for place, (title, rows) in enumerate(tables.items()):
            axes = canvas.add_subplot(1, len(tables), place + 1)
            axes.set_title(title)
            for model in (REAL, INDEPENDENT):
                if figure := rows.get(model, {}).get(measure):
                    axes.axhline(figure.mean, color=YARDSTICK, linewidth=1)
                    axes.annotate(
                        model,
                        (1, figure.mean),
                        (-2, 3),
                        xycoords=("axes fraction", "data"),
                        textcoords="offset points",
                        color=SOFT,
                        fontsize=8.5,
                        ha="right",
                    )
            _scatter(axes, rows, measure)
            axes.set_xlabel("seconds of training (logarithmic)")
            if not place:
                axes.set_ylabel(MEASURES[measure].title.replace("-\n", "").replace("\n", " "))
        return _svg(canvas)


def _scatter(axes: Axes, rows: Mapping[str, Row], measure: str) -> None:
    """The models that were trained, their names beside them; where these would overlap, higher up on a line."""
    points = sorted(
        ((row["training"].mean, row[measure], model) for model, row in rows.items() if "training" in row),
        key=lambda point: point[1].mean,
    )
    axes.set_xscale("log")
    for seconds, figure, model in points:
        axes.errorbar(seconds, figure.mean, yerr=figure.spread, fmt="o", color=colour(model), markersize=7, zorder=3)
    axes.margins(x=0.3, y=0.14)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    apart = (high - low) * 0.062
    named: list[tuple[float, float]] = []
    for seconds, figure, model in points:
        near = [height for other, height in named if 1 / NEAR < other / seconds < NEAR]
        height = max([figure.mean, *(taken + apart for taken in near)])
        named.append((seconds, height))
        late = seconds**2 > left * right  # in the right half names stand on the left
        axes.annotate(
            model,
            (seconds, figure.mean),
            (-13 if late else 13, height),
            textcoords=("offset points", "data"),
            ha="right" if late else "left",
            va="center",
            fontsize=8.5,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if axes.get_xlim()[0] <= tick <= right]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", length=0)


def inversion(tables: Mapping[str, Mapping[str, Row]]) -> str | None:
    """What leaked pairs of latent and row make of the other rows; None where no latents were attacked."""
    attacked = {title: [m for m, row in rows.items() if "accuracy_500" in row] for title, rows in tables.items()}
    attacked = {title: models for title, models in attacked.items() if models}
    if not attacked:
        return None
    with rc_context(STYLE):
        rows_most = max(len(models) for models in attacked.values())
        canvas = Canvas(figsize=(WIDTH, 1.1 + 2 * ROW * rows_most), layout="constrained")
        for place, (title, models) in enumerate(attacked.items()):
            axes = canvas.add_subplot(1, len(attacked), place + 1)
            axes.set_title(title)
            for height, model in enumerate(models):
                row = tables[title][model]
                for shift, kind, shade in ((-0.16, "r2", OURS), (0.16, "accuracy", PEER)):
                    few, many = row.get(f"{kind}_20"), row.get(f"{kind}_500")
                    if few and many:
                        axes.plot([few.mean, many.mean], [height + shift] * 2, color=shade, linewidth=2, alpha=0.5)
                        axes.plot(few.mean, height + shift, "o", color=shade, markersize=6, fillstyle="none")
                        axes.plot(many.mean, height + shift, "o", color=shade, markersize=6)
            axes.set_yticks(range(len(models)), models)
            axes.set_ylim(len(models) - 0.5, -0.5)
            axes.set_xlim(0, 1.04)
            axes.tick_params(length=0)
        return _svg(canvas)


def _svg(canvas: Canvas) -> str:
    """A figure as SVG that lies in a page and takes its width and colours."""
    out = io.StringIO()
    canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    return text
