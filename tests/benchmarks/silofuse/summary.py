"""From cells to figures: which measures there are, their mean and spread over seeds, and means over tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.silofuse.cells import Result

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Measure:
    """A column of the tables.

    Attributes:
        title: its heading, on two lines at most.
        about: what it is and which direction is good.
        read: takes it from a cell; None where it does not apply.
        digits: after the point.
    """

    title: str
    about: str
    read: Callable[[Result], float | None]
    digits: int = 1


@dataclass(frozen=True)
class Figure:
    """A measure over seeds: mean, standard deviation (none for one seed), and how many there are."""

    mean: float
    spread: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The figure of at least one value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def _resemblance(part: str) -> Callable[[Result], float | None]:
    return lambda cell: cell.report["resemblance"][part]


def _attack(name: str) -> Callable[[Result], float | None]:
    return lambda cell: cell.report["privacy"][name]["risk"]


def _inversion(name: str) -> Callable[[Result], float | None]:
    return lambda cell: cell.inversion.get(name)


def _first_target(cell: Result) -> float | None:
    names = [name for name in cell.report["utility"] if name != "overall"]
    return cell.report["utility"][names[0]]


def _sampling(cell: Result) -> float | None:
    return cell.seconds["sampling"] + cell.seconds.get("decoding", 0.0) if cell.seconds else None


def _speed(cell: Result) -> float | None:
    seconds = _sampling(cell)
    return cell.report["rows"]["synthetic"] / seconds if seconds else None


def _travelled(cell: Result) -> float | None:
    return sum(cell.bytes.values()) / MEBIBYTE if cell.bytes else None


QUALITY = {
    "resemblance": Measure("resem-\nblance", "mean of the five parts, of 100", _resemblance("overall")),
    "column": Measure("columns", "values spread alike, of 100", _resemblance("column")),
    "correlation": Measure("corre-\nlation", "pairs of columns relate alike, of 100", _resemblance("correlation")),
    "js": Measure("Jensen-\nShannon", "1 - distance of the columns' distributions, of 100", _resemblance("js")),
    "ks": Measure("Kolm.-\nSmirnov", "1 - the largest gap between them, of 100", _resemblance("ks")),
    "propensity": Measure(
        "propen-\nsity", "calm trees cannot tell real from synthetic, of 100", _resemblance("propensity")
    ),
    "detection": Measure(
        "detection\nAUC", "of the same trees; 0.5 is a coin toss", lambda cell: cell.report["detection_auc"], 3
    ),
    "strict_resemblance": Measure(
        "strict\nresemb.", "resemblance with XGBoost's default trees as judge", lambda cell: cell.strict["resemblance"]
    ),
    "strict_propensity": Measure("strict\nprop.", "their propensity", lambda cell: cell.strict["propensity"]),
    "strict_detection": Measure("strict\nAUC", "their detection AUC", lambda cell: cell.strict["detection_auc"], 3),
    "utility": Measure(
        "utility",
        "predictions learnt from synthetic over real rows, mean of the targets, of 100",
        lambda cell: cell.report["utility"]["overall"],
    ),
    "utility_first": Measure("of first\ntarget", "the same of the first target alone", _first_target),
}
PRIVACY_AND_COST = {
    "memorisation": Measure(
        "memori-\nsation",
        "share nearer to a training than to a held-out row; 0.5 is ideal",
        lambda cell: cell.report["memorisation"],
        3,
    ),
    "singling_out": Measure("singl.\nout", "excess risk of being singled out", _attack("singling_out"), 3),
    "linkability": Measure("link-\nability", "excess risk of being linked", _attack("linkability"), 3),
    "inference": Measure("infer-\nence", "excess risk of a value being inferred", _attack("inference"), 3),
    "r2_20": Measure(
        "R²\n20 pairs", "of quantities inverted from latents with 20 leaked pairs", _inversion("r2_20"), 2
    ),
    "r2_500": Measure("R²\n500", "with 500 pairs", _inversion("r2_500"), 2),
    "accuracy_20": Measure("acc.\n20 pairs", "of categories inverted from latents", _inversion("accuracy_20"), 2),
    "accuracy_500": Measure("acc.\n500", "with 500 pairs", _inversion("accuracy_500"), 2),
    "autoencoders": Measure(
        "prepar.\ns",
        "seconds of autoencoders, or of a peer's preprocessing",
        lambda cell: cell.seconds.get("autoencoders", cell.seconds.get("preprocessing")),
    ),
    "training": Measure("+ training\ns", "seconds in all until it can be sampled", lambda c: c.training or None),
    "sampling": Measure("sampl.\ns", "seconds of sampling and decoding", _sampling),
    "speed": Measure("rows/s", "synthetic rows per second of sampling and decoding", _speed, 0),
    "memory": Measure(
        "peak\nMiB",
        "memory of the process that fits and samples",
        lambda cell: cell.memory / MEBIBYTE if cell.memory else None,
        0,
    ),
    "travelled": Measure("sent\nMiB", "latents up and slices down, before sealing", _travelled),
}
MEASURES = QUALITY | PRIVACY_AND_COST

Row = Mapping[str, Figure]
Summary = Mapping[tuple[str, str], Row]
"""Figures by (table, model) and measure."""
EVERYWHERE = "mean"
"""The table that stands for the mean over all tables."""


def heading(table: str) -> str:
    """A table's name for people."""
    return "Mean over the tables" if table == EVERYWHERE else table.upper() if table == "support2" else table.title()


def summarise(cells: Iterable[Result]) -> Summary:
    """Figures of all cells, and of each model that was run on several tables its means over these."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for name, measure in MEASURES.items():
            value = measure.read(cell)
            if value is not None:
                values[cell.request.table, cell.request.model][name].append(value)
    found: dict[tuple[str, str], Row] = {
        place: {name: Figure.of(one) for name, one in measured.items()} for place, measured in values.items()
    }
    tables = {table for table, _ in found}
    for model in dict.fromkeys(model for _, model in found):
        rows = [found[table, model] for table in tables if (table, model) in found]
        if len(rows) == len(tables) > 1:
            names = [name for name in MEASURES if all(name in row for row in rows)]
            means = {name: statistics.fmean(row[name].mean for row in rows) for name in names}
            seeds = min(row["resemblance"].count for row in rows)
            found[EVERYWHERE, model] = {name: Figure(mean, None, seeds) for name, mean in means.items()}
    return found
