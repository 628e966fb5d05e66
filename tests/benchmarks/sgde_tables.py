"""The four tables of the SGDE benchmark: where they lie, and what is declared of them in public.

Bounds are round numbers that such quantities keep within, categories those of the published code books; `skewed`
names incomes, fares, concentrations and areas. δ is a power of ten of at most a tenth of a silo's rows' inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter
from sklearn.datasets import load_breast_cancer

from protocols.learning.schema import Columns
from protocols.learning.table import conform
from protocols.sgde.parameters import FamilyName, SgdeParameters

Declared = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """A table and what is asked of it.

    Attributes:
        table: in canonical types.
        columns: the public schema.
        label: the column to predict.
        positive: the class that F1 and AUC are about.
        skewed: quantities on a logarithmic scale.
    """

    table: pd.DataFrame
    columns: Columns
    label: str
    positive: str
    skewed: tuple[str, ...]

    def parameters(self, family: FamilyName, records: int) -> SgdeParameters:
        """The run's parameters for silos of about so many rows."""
        delta = min(1e-3, 10.0 ** math.floor(-math.log10(10 * records)))
        skewed = self.skewed
        run = SgdeParameters(label=self.label, family=family, delta=delta, records=records, skewed=skewed)
        run.check(self.columns)
        return run


def number(low: float, high: float, *, missing: bool = False) -> dict[str, Any]:
    """What a schema says of a quantity."""
    return {"type": "number", "min": low, "max": high, "missing": missing}


def integer(low: int, high: int) -> dict[str, Any]:
    """What a schema says of a count."""
    return {"type": "integer", "min": low, "max": high}


def category(*labels: str, missing: bool = False) -> dict[str, Any]:
    """What a schema says of labels."""
    return {"type": "category", "categories": list(labels), "missing": missing}


def _task(table: pd.DataFrame, declared: Declared, label: str, positive: str, skewed: tuple[str, ...]) -> Task:
    columns = TypeAdapter(Columns).validate_python(declared)
    return Task(conform(table[list(declared)], columns), columns, label, positive, skewed)


def titanic(folder: Path) -> Task:
    """891 passengers; who survived."""
    table = pd.read_csv(folder / "titanic.csv").astype({"survived": str, "pclass": str})
    declared = {
        "pclass": category("1", "2", "3"),
        "sex": category("female", "male"),
        "age": number(0, 90, missing=True),
        "sibsp": integer(0, 10),
        "parch": integer(0, 10),
        "fare": number(0, 600),
        "embarked": category("C", "Q", "S", missing=True),
        "survived": category("0", "1"),
    }
    return _task(table, declared, "survived", "1", ("fare", "sibsp", "parch"))


CELLS = {
    "radius": ((5, 40), (0.1, 4)),
    "texture": ((5, 50), (0.3, 6)),
    "perimeter": ((30, 270), (0.5, 30)),
    "area": ((100, 4500), (5, 700)),
    "smoothness": ((0.05, 0.25), (0.001, 0.05)),
    "compactness": ((0, 1.2), (0.001, 0.2)),
    "concavity": ((0, 1.4), (0, 0.5)),
    "concave points": ((0, 0.35), (0, 0.08)),
    "symmetry": ((0.1, 0.7), (0.005, 0.1)),
    "fractal dimension": ((0.04, 0.22), (0.0005, 0.04)),
}
"""Of each measured quantity the bounds of its mean and its worst, and of its standard error."""


def breast_cancer(_: Path | None) -> Task:
    """569 tumours; which are benign."""
    table = load_breast_cancer(as_frame=True).frame
    table["diagnosis"] = table["target"].map({0: "malignant", 1: "benign"})
    declared = {f"mean {name}": number(*bounds) for name, (bounds, _) in CELLS.items()}
    declared |= {f"{name} error": number(*bounds) for name, (_, bounds) in CELLS.items()}
    declared |= {f"worst {name}": number(*bounds) for name, (bounds, _) in CELLS.items()}
    skewed = tuple(declared)
    return _task(table, declared | {"diagnosis": category("malignant", "benign")}, "diagnosis", "benign", skewed)


def adult(folder: Path) -> Task:
    """32,561 people; who earns more than 50K."""
    table = pd.read_csv(folder / "adult.csv", keep_default_na=False)
    bounds = {
        "age": (0, 100),
        "fnlwgt": (0, 1_600_000),
        "education-num": (1, 16),
        "capital-gain": (0, 100_000),
        "capital-loss": (0, 5000),
        "hours-per-week": (1, 99),
    }
    # the code book lists each category that occurs
    declared = {
        name: integer(*bounds[name]) if name in bounds else category(*sorted(table[name].unique()))
        for name in table.columns
    }
    return _task(table, declared, "label", ">50K", ("fnlwgt", "capital-gain", "capital-loss"))


def wine(folder: Path) -> Task:
    """6,497 wines; which are red."""
    kinds = {kind: pd.read_csv(folder / f"wine-{kind}.csv", encoding="utf-8-sig") for kind in ("red", "white")}
    table = pd.concat([part.assign(kind=kind) for kind, part in kinds.items()], ignore_index=True)
    declared = {
        "fixedacidity": number(3, 17),
        "volatileacidity": number(0, 2),
        "citricacid": number(0, 2),
        "residualsugar": number(0, 70),
        "chlorides": number(0, 0.7),
        "freesulfurdioxide": number(0, 300),
        "totalsulfurdioxide": number(0, 450),
        "density": number(0.98, 1.04),
        "pH": number(2.5, 4.5),
        "sulphates": number(0, 2.2),
        "alcohol": number(7, 16),
        "quality": integer(0, 10),
        "kind": category("white", "red"),
    }
    skewed = ("volatileacidity", "residualsugar", "chlorides", "freesulfurdioxide", "density", "sulphates")
    return _task(table, declared, "kind", "red", skewed)


TASKS: dict[str, Callable[[Path], Task]] = {
    "titanic": titanic,
    "breast-cancer": breast_cancer,
    "adult": adult,
    "wine": wine,
}
SHIPPED = ("breast-cancer",)
"""What needs no folder of data."""
