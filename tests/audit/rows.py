"""A game over the upload of noised latents: two tables of the same people, but for one whose every value differs.

Both records lie at opposite ends of the schema, twice the norm apart.
What is scored is all that leaves, in the direction in which the change moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.noise import Noise
from protocols.learning.schema import Category, Columns, Number
from protocols.learning.table import conform
from protocols.silofuse.claim import deviation, mechanism_of
from protocols.silofuse.noised import Encoder, released
from services.mechanism import Mechanism
from tests.audit.bound import DELTA, Finding, audited

COLUMNS: Columns = {
    "dose": Number(type="number", min=0, max=1),
    "level": Number(type="number", min=-5, max=5),
    "ward": Category(type="category", categories=("a", "b")),
}
LEAST, MOST = {"dose": 0.0, "level": -5.0, "ward": "a"}, {"dose": 1.0, "level": 5.0, "ward": "b"}
MIDDLE = {"dose": 0.5, "level": 0.0, "ward": "a"}

Release = Callable[[Encoder, pd.DataFrame, Mechanism], tuple[NDArray[np.float32], Mechanism]]


@dataclass(frozen=True)
class RowGame:
    """A way of releasing rows, and what it claims for them.

    Attributes:
        title: what is told apart.
        release: the upload.
        trials: of each table, where a mistake is looked for.
    """

    title: str
    release: Release = released
    trials: int = 1000

    def play(self, trials: int, confidence: float, epsilon: float = 4.0) -> Finding:
        """Audit what the release claims to have executed."""
        encoder, mechanism = Encoder.draw(COLUMNS), mechanism_of(epsilon, DELTA)
        one, other = (table([MIDDLE, record, MIDDLE]) for record in (LEAST, MOST))
        direction = encoder.encode(other) - encoder.encode(one)
        scores = [
            np.array([(self.release(encoder, people, mechanism)[0] * direction).sum() for _ in range(trials)])
            for people in (one, other)
        ]
        claim = self.release(encoder, one, mechanism)[1]
        return audited(scores[0], scores[1], claim.event, confidence)


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows in canonical types."""
    return conform(pd.DataFrame(rows), COLUMNS)


def _half(encoder: Encoder, people: pd.DataFrame, mechanism: Mechanism) -> tuple[NDArray[np.float32], Mechanism]:
    latents = encoder.encode(people)
    return (latents + Noise().normal(latents.shape, deviation(mechanism, COLUMNS) / 2)).astype(np.float32), mechanism


def _same(encoder: Encoder, people: pd.DataFrame, mechanism: Mechanism) -> tuple[NDArray[np.float32], Mechanism]:
    return released(encoder, people, mechanism, Noise(bytes(32)))


def _longer(encoder: Encoder, people: pd.DataFrame, mechanism: Mechanism) -> tuple[NDArray[np.float32], Mechanism]:
    noised, executed = released(encoder, people, mechanism)
    return (noised + 0.7 * encoder.encode(people)).astype(np.float32), executed


ROWS = RowGame("noised latents: one person's row, or another's")
PLANTED_ROWS = (
    replace(ROWS, title="a row's noise counted in the norm, not the distance", release=_half),
    replace(ROWS, title="a row's noise from a reused seed", release=_same),
    replace(ROWS, title="rows that are longer than the norm", release=_longer),
)
