"""Games over the families of generators: `fit` itself, on tables that differ in one worst-case record.

What is scored is all that leaves, in the direction in which the record moves it: that is found by fitting both tables
without noise. A tree of noisy counts is scored on its first step alone, whose direction does not depend on the noise
of others; a logistic regression's sums and its score are scored apart; a variational autoencoder is the training step
of `games`, once for each class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.noise import Noise
from protocols.learning.schema import Category, Columns, Number
from protocols.sgde.families import family
from protocols.sgde.parameters import FamilyName, SgdeParameters
from services.mechanism import Event
from tests.audit.bound import Finding, Scores, audited

COLUMNS: Columns = {
    "label": Category(type="category", categories=("no", "yes")),
    "dose": Number(type="number", min=0, max=1),
    "level": Number(type="number", min=-5, max=5),
    "ward": Category(type="category", categories=("a", "b", "c")),
}
EDGE = {"label": "yes", "dose": 1.0, "level": 5.0, "ward": "c"}
"""As far from the middle as the schema allows, so clipping is what bounds it."""


class Silent(Noise):
    """Shows what noise would cover."""

    def normal(self, shape: Any, scale: float = 1.0, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return super().normal(shape, 0 * scale, out)


@dataclass(frozen=True)
class FamilyGame:
    """One family, over 7 or 8 people, or over nobody or one.

    Attributes:
        title: what is told apart.
        name: the family's.
        seen: the released tensors that are scored.
        people: how many both tables hold.
        records: the public number, which decides how finely a family looks.
    """

    title: str
    name: FamilyName
    seen: tuple[str, ...]
    people: int
    records: int = 8

    def play(self, trials: int, confidence: float) -> Finding:
        """Audit what the family claims to have executed."""
        rows = [{"label": "no", "dose": 0.0, "level": -5.0, "ward": "a"}] * self.people
        less, more = table(rows), table([*rows, EDGE])
        direction = self._fitted(more, Silent())[0] - self._fitted(less, Silent())[0]
        noise = Noise()
        absent, present = (
            np.array([self._fitted(people, noise)[0] @ direction for _ in range(trials)]) for people in (less, more)
        )
        return audited(absent, present, self._fitted(more, noise)[1], confidence)

    def _fitted(self, people: pd.DataFrame, noise: Noise) -> tuple[Scores, Event]:
        parameters = SgdeParameters(label="label", family=self.name, epsilon=4.0, records=self.records)
        tensors, event = family(self.name).fit(people, COLUMNS, parameters, noise, lambda *_: None)
        return np.concatenate(
            [np.ravel(tensors[name]).astype(np.float64) for name in self.seen if name in tensors]
        ), event


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows in canonical types; none are a table too."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(_TYPES)


_TYPES: dict[str, Any] = {
    name: pd.CategoricalDtype(column.categories) if isinstance(column, Category) else "float64"
    for name, column in COLUMNS.items()
}
_MOMENTS = ("count", "sums", "squares", "columns", "categories")
FAMILY_GAMES = (
    FamilyGame("moments: 7 or 8 people", "moments", _MOMENTS, 7),
    FamilyGame("moments: nobody or one person", "moments", _MOMENTS, 0),
    FamilyGame("logistic, about a centre: 7 or 8 people", "logistic", ("offsets", "squares"), 7, 10_000),
    FamilyGame("logistic, its score: nobody or one person", "logistic", ("score",), 0),
    FamilyGame("naive Bayes: 7 or 8 people", "tan", ("fine",), 7),
    FamilyGame("tree, its first step: 7 or 8 people", "tan", ("fine",), 7, 1_000_000),
)
