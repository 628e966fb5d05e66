"""A small schema with every type of column, tables under it, and a noise that is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from protocols.learning.noise import Noise
from protocols.learning.schema import Columns
from protocols.learning.table import conform
from protocols.sgde.parameters import SgdeParameters, VaeParameters

SCHEMA = TypeAdapter(Columns).validate_python(
    {
        "age": {"type": "integer", "min": 0, "max": 100},
        "dose": {"type": "number", "min": 0, "max": 5, "step": 0.5, "missing": True},
        "cost": {"type": "number", "min": 0, "max": 1000},
        "day": {"type": "date", "min": "2020-01-01", "max": "2020-12-31"},
        "smoker": {"type": "category", "categories": ["no", "yes", "former"], "missing": True},
        "sex": {"type": "category", "categories": ["f", "m"]},
        "outcome": {"type": "category", "categories": ["well", "ill", "dead"]},
    }
)
FAMILIES = ("moments", "logistic", "tan", "vae")


def parameters(family: str, **changes: Any) -> SgdeParameters:
    vae = VaeParameters(steps=3, width=8, latent=2)
    return SgdeParameters(label="outcome", family=family, skewed=("cost",), vae=vae, **{"records": 5000, **changes})  # type: ignore[arg-type]


def people(count: int, seed: int = 0, classes: int = 3) -> pd.DataFrame:
    """Random rows whose columns depend on the outcome."""
    rng = np.random.default_rng(seed)
    outcome = rng.integers(0, classes, count)
    age = np.clip(rng.normal(30 + 20 * outcome, 10), 0, 100).round()
    dose = np.where(rng.random(count) < 0.2, np.nan, rng.integers(0, 11, count) / 2)
    smoker = pd.Series(rng.choice(["no", "yes", "former"], count)).where(pd.Series(rng.random(count) < 0.9))
    table = pd.DataFrame(
        {
            "age": age,
            "dose": dose,
            "cost": np.clip(rng.lognormal(3 + outcome, 0.5), 0, 1000),
            "day": pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 366, count), "D")),
            "smoker": smoker,
            "sex": np.where(rng.random(count) < 0.3 + 0.2 * outcome, "m", "f"),
            "outcome": np.array(["well", "ill", "dead"])[outcome],
        }
    )
    return conform(table, SCHEMA)


def silent(*_: object) -> None: ...


class Quiet(Noise):
    """No noise at all: what is released is what was computed."""

    def normal(self, shape: int | tuple[int, ...], scale: float = 1.0) -> NDArray[np.float64]:
        return np.zeros(shape)
