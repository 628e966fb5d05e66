"""What the page draws, as plain numbers and small images: shares of bins, shares of labels, matrices of relations.

Bins end at round numbers inside the public bounds and the outermost take in what lies beyond, so that no axis shows
the smallest or largest value that somebody really has.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from protocols.learning.evaluate.arrays import Floats, labels
from protocols.learning.evaluate.report import NoiseCurve
from protocols.learning.evaluate.resemblance import association, marginals
from protocols.learning.schema import Category, Column, Columns, Date, Integer

BINS = 22
MOST_LABELS = 8
MOST_PAIRS = 7

SKEWED = 8.0
"""A quantity whose upper tail is so many times as long as its lower one is drawn on a logarithmic axis."""

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Bar:
    """Shares of real and of synthetic rows with one label, or in one bin."""

    label: str
    real: float
    synthetic: float


@dataclass(frozen=True)
class Panel:
    """One column: bars of its labels, or of its bins from `low` to `high`; the missing apart, where there are any."""

    name: str
    kind: str
    similar: float
    bars: tuple[Bar, ...]
    missing: Bar | None
    low: str = ""
    high: str = ""

    @property
    def peak(self) -> float:
        """The largest share of a bar; the missing of a category are one more bar, those of a quantity stand apart."""
        shown = [*self.bars, *([self.missing] if self.missing and self.kind == "category" else [])]
        return max([0.0, *(max(bar.real, bar.synthetic) for bar in shown)]) or 1.0


@dataclass(frozen=True)
class Pair:
    """Two columns, and how strongly they relate in real and in synthetic rows."""

    one: str
    other: str
    real: float
    synthetic: float


@dataclass(frozen=True)
class Matrices:
    """Pictures of the relations of all columns, as data URLs, and the pairs that differ most."""

    names: tuple[str, ...]
    real: str
    synthetic: str
    difference: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Curve:
    """What leaked pairs tell, level by level of noise, each share or R² a height between 0 and 1.

    Attributes:
        ticks: what stands below each level.
        chosen: the place of the level that the run claims.
        traces: a height for each level, by what it is of; only what could be measured everywhere.
        majority: the height that guessing the most frequent label reaches.
    """

    ticks: tuple[str, ...]
    chosen: int | None
    traces: dict[str, tuple[float, ...]]
    majority: float | None


def curve(noise: NoiseCurve) -> Curve:
    """The picture of a report's noise curve."""
    found = {
        name: tuple(getattr(point.inversion, name) for point in noise.points)
        for name in ("r2_20", "r2_500", "accuracy_500")
    }
    levels = [point.epsilon for point in noise.points]
    return Curve(
        tuple("no noise" if level is None else f"{level:g}" for level in levels),
        levels.index(noise.claimed) if noise.claimed in levels and noise.claimed is not None else None,
        {name: heights for name, heights in found.items() if None not in heights},
        noise.points[0].inversion.majority,
    )


def panels(real: Floats, synthetic: Floats, columns: Columns) -> list[Panel]:
    """One picture for each column of two matrices."""
    similar = marginals(real, synthetic, columns).ks
    out = []
    for place, (name, column) in enumerate(columns.items()):
        ours, theirs = real[:, place], synthetic[:, place]
        missing = Bar("missing", float(np.isnan(ours).mean()), float(np.isnan(theirs).mean()))
        shown = missing if missing.real or missing.synthetic else None
        if isinstance(column, Category):
            out.append(Panel(name, "category", similar[place], _label_bars(ours, theirs, column), shown))
            continue
        edges, logarithmic = _edges(ours[~np.isnan(ours)], column)
        heights = [_bin_shares(values, edges) for values in (ours, theirs)]
        bars = tuple(Bar("", *pair) for pair in zip(*heights, strict=True))
        whole = isinstance(column, Integer)
        low, high = (np.ceil(edges[0]), np.floor(edges[-1])) if whole else (edges[0], edges[-1])
        kind = "logarithmic" if logarithmic else "quantity"
        out.append(Panel(name, kind, similar[place], bars, shown, _written(low, column), _written(high, column)))
    return out


def matrices(real: Floats, synthetic: Floats, columns: Columns) -> Matrices:
    """Relations in both tables, and where they differ."""
    ours, theirs = (association(table, columns, []) for table in (real, synthetic))
    away = np.abs(ours - theirs)
    names = tuple(columns)
    strongest = np.maximum(away, away.T)
    rows, others = np.triu_indices(len(names), 1)
    order = np.argsort(-strongest[rows, others], kind="stable")[:MOST_PAIRS]
    pairs = []
    for one, other in zip(rows[order], others[order], strict=True):
        place = (one, other) if away[one, other] >= away[other, one] else (other, one)
        pairs.append(Pair(names[place[0]], names[place[1]], float(ours[place]), float(theirs[place])))
    return Matrices(
        names, _image(ours, "RdBu_r", -1), _image(theirs, "RdBu_r", -1), _image(away, "Purples", 0), tuple(pairs)
    )


def _label_bars(ours: Floats, theirs: Floats, column: Category) -> tuple[Bar, ...]:
    """The most frequent labels in their declared order, and the others together."""
    count = len(column.categories)
    shares = [np.bincount(labels(v, count), minlength=count + 1)[:count] / len(v) for v in (ours, theirs)]
    first = np.sort(np.argsort(-shares[0], kind="stable")[: MOST_LABELS if count > MOST_LABELS + 1 else count])
    bars = [Bar(column.categories[place], float(shares[0][place]), float(shares[1][place])) for place in first]
    if len(first) < count:
        rest = [float(share.sum() - share[first].sum()) for share in shares]
        bars.append(Bar(f"{count - len(first)} others", *rest))
    return tuple(bars)


def _edges(known: Floats, column: Column) -> tuple[Floats, bool]:
    """Ends of bins at round numbers, and whether they are spaced logarithmically."""
    bounds = _bounds(column)
    if not len(known):
        return np.linspace(*bounds, 3), False
    low, middle, high = np.quantile(known, [0.01, 0.5, 0.99])
    whole = isinstance(column, Integer | Date)
    if whole and high - low < BINS:
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5, False
    if high == low:
        return np.array([low - 0.5, low + 0.5]), False
    if low >= 0 and high - middle > SKEWED * max(middle - low, 1e-9) and high > 10 * max(middle, 1e-9):
        powers = _ticks(np.log10(low + 1), np.log10(high + 1))
        return _within(np.array([float(f"{10**power - 1:.1e}") for power in powers]), bounds), True
    return _within(_ticks(low, high, whole=whole), bounds), False


def _ticks(low: float, high: float, *, whole: bool = False) -> Floats:
    return np.asarray(MaxNLocator(BINS, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high))


def _within(edges: Floats, bounds: tuple[float, float]) -> Floats:
    return np.unique(np.clip(edges, *bounds))


def _bounds(column: Column) -> tuple[float, float]:
    if isinstance(column, Date):
        return float((column.min - EPOCH).days), float((column.max - EPOCH).days)
    return float(getattr(column, "min", 0)), float(getattr(column, "max", 1))


def _bin_shares(values: Floats, edges: Floats) -> list[float]:
    known = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
    return [float(count) / len(values) for count in np.histogram(known, edges)[0]]


def _written(edge: float, column: Column) -> str:
    if isinstance(column, Date):
        return (EPOCH + timedelta(days=round(edge))).isoformat()
    return f"{edge:,.0f}" if abs(edge) >= 1000 else f"{edge + 0.0:.3g}"


def _image(values: Floats, colours: str, low: float) -> str:
    out = io.BytesIO()
    imsave(out, values, vmin=low, vmax=1 if low else 0.5, cmap=colours, format="png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
