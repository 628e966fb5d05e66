"""All measures of one synthetic table against real rows, beside what independent columns and real rows would score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocols.learning.evaluate import attacks, trees
from protocols.learning.evaluate.arrays import Floats, drawn, matrix
from protocols.learning.evaluate.memorisation import memorisation
from protocols.learning.evaluate.report import Attack, Privacy, Reference, Report, Resemblance, TargetUtility
from protocols.learning.evaluate.report import Rows as Compared
from protocols.learning.evaluate.resemblance import association, correlation, flagged, marginals
from protocols.learning.rows import Rows
from protocols.learning.schema import Columns
from services.contract import ProgressCallback
from services.errors import DataError

FEWEST_ROWS = 10

HOPELESS = 0.02
"""A target that real rows predict no better than this says nothing about synthetic ones."""

STEPS = 9

# streams of the seed: no measure's draws depend on another's
INDEPENDENT, DETECTION, MEMORISATION = 100, 101, 102


def evaluate(
    training: Rows,
    held_out: Rows,
    synthetic: Rows,
    columns: Columns,
    targets: Sequence[str] = (),
    *,
    seed: int = 0,
    progress: ProgressCallback = lambda *_: None,
) -> Report:
    """Measure a synthetic table.

    Resemblance, utility and detection are measured against held-out rows: repeating training rows earns nothing.

    Args:
        training: real rows that the generator saw; of more than `arrays.MOST_ROWS` those that `arrays.drawn` names,
            as of the other tables.
        held_out: real rows that it did not see.
        synthetic: the rows to measure.
        columns: the public schema of the columns to compare.
        targets: columns whose prediction is the test of usefulness; those that are not in `columns` are left out.
        seed: of every draw; no secret.
        progress: called before every measure; what it raises ends the measuring.

    Raises:
        DataError: a table has too few rows to measure anything.
    """
    tables = {"training": training, "held-out": held_out, "synthetic": synthetic}
    for what, table in tables.items():
        if len(table) < FEWEST_ROWS:
            raise DataError(f"{len(table)} {what} rows are too few to measure: at least {FEWEST_ROWS} are needed")
    asked = [target for target in targets if target in columns]
    seen, unseen, ours = (matrix(table.take(drawn(table)), columns) for table in tables.values())
    judge = _Judge(seen, unseen, columns, seed, progress)
    alone = _independent(judge.training, len(ours), np.random.default_rng([seed, INDEPENDENT]))

    resembles, auc = judge.resemblance(ours)
    resembles_alone, auc_alone = judge.resemblance(alone)
    resembles_real, auc_real = judge.resemblance(judge.training)
    memorised, error = judge.memorisation(ours)
    memorised_alone, _ = judge.memorisation(alone)
    scores = judge.utility(ours, alone, asked)
    privacy = judge.attacks(ours, (asked or list(columns))[: attacks.SECRETS])
    progress("measuring", STEPS, STEPS, None)

    utility = {
        target: _ratio(scores[target].synthetic, scores[target].real) if target in scores else None for target in asked
    }
    independent = [_ratio(score.independent, score.real) for score in scores.values()]
    return Report(
        rows=Compared(training=len(seen), held_out=len(unseen), synthetic=len(ours)),
        columns=tuple(columns),
        resemblance=Resemblance.model_validate(resembles),
        baseline_independent=Reference.model_validate(
            {
                **resembles_alone,
                "detection_auc": auc_alone,
                "utility": _mean(independent),
                "memorisation": memorised_alone,
            }
        ),
        real_rows=Reference.model_validate({**resembles_real, "detection_auc": auc_real}),
        utility={"overall": _mean(list(utility.values())), **utility},
        utility_scores=scores,
        detection_auc=auc,
        memorisation=memorised,
        memorisation_error=error,
        privacy=privacy,
        notes=(*_partial(tables), *_unmeasured(utility, scores), *_silent(privacy)),
    )


@dataclass
class _Judge:
    """Puts any table through the same measures, and reports each of them before it begins."""

    training: Floats
    held_out: Floats
    columns: Columns
    seed: int
    progress: ProgressCallback
    begun: int = 0

    def __post_init__(self) -> None:
        self._flags = flagged(self.held_out, self.columns)
        self._associated = association(self.held_out, self.columns, self._flags)

    def resemblance(self, table: Floats) -> tuple[dict[str, float], float]:
        """The composite and its parts, of 100, and the detection AUC."""
        self._begin()
        similar = marginals(self.held_out, table, self.columns)
        related = correlation(self._associated, association(table, self.columns, self._flags))
        propensity, auc = trees.detection(self.held_out, table, self.columns, self._rng(DETECTION))
        parts = {
            "column": float(similar.column.mean()),
            "correlation": related,
            "js": float(similar.js.mean()),
            "ks": float(similar.ks.mean()),
            "propensity": propensity,
        }
        parts["overall"] = float(np.mean(list(parts.values())))
        return {name: round(100 * value, 2) for name, value in parts.items()}, round(auc, 4)

    def memorisation(self, table: Floats) -> tuple[float, float]:
        """See `memorisation.memorisation`."""
        self._begin()
        share, error = memorisation(self.training, self.held_out, table, self.columns, self._rng(MEMORISATION))
        return round(share, 4), round(error, 4)

    def utility(self, table: Floats, alone: Floats, targets: Sequence[str]) -> dict[str, TargetUtility]:
        """Scores on held-out rows of trees that learnt from real, from synthetic and from independent rows."""
        self._begin()
        found = {}
        for target in targets:
            scores = [trees.score(rows, self.held_out, self.columns, target) for rows in (self.training, table, alone)]
            if scores[0] is not None:
                # a table without a single known value of the target teaches nothing
                real, synthetic, independent = (round(score or 0.0, 4) for score in scores)
                found[target] = TargetUtility(
                    measure=trees.measure_of(self.columns[target]),
                    real=real,
                    synthetic=synthetic,
                    independent=independent,
                )
        return found

    def attacks(self, table: Floats, secrets: Sequence[str]) -> Privacy:
        """Anonymeter's three attacks."""
        attacked = attacks.Attacked(self.training, self.held_out, table, self.columns, self.seed)
        self._begin()
        singled = _rounded(attacks.singling_out(attacked))
        self._begin()
        linked = _rounded(attacks.linkability(attacked))
        self._begin()
        return Privacy(
            singling_out=singled, linkability=linked, inference=_rounded(attacks.inference(attacked, secrets))
        )

    def _begin(self) -> None:
        self.progress("measuring", self.begun, STEPS, None)
        self.begun += 1

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])


def _independent(real: Floats, rows: int, rng: np.random.Generator) -> Floats:
    """A table whose columns are each drawn on their own from real rows: right in every column, in no relation."""
    return np.column_stack([column[rng.integers(0, len(real), rows)] for column in real.T])


def _ratio(score: float, real: float) -> float | None:
    return round(100 * min(1.0, max(0.0, score / real)), 2) if real > HOPELESS else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 2) if known else None


def _rounded(attack: Attack) -> Attack:
    return Attack.model_validate(
        {k: round(v, 4) if isinstance(v, float) else v for k, v in attack.model_dump().items()}
    )


def _partial(tables: dict[str, Rows]) -> list[str]:
    return [
        f"measured on {len(drawn(table))} of the {len(table)} {what} rows, drawn at random"
        for what, table in tables.items()
        if len(drawn(table)) < len(table)
    ]


def _unmeasured(utility: dict[str, float | None], scores: dict[str, TargetUtility]) -> list[str]:
    return [
        f"utility of {target}: "
        + ("even real rows do not predict it" if target in scores else "too few known or too uniform values")
        for target, value in utility.items()
        if value is None
    ]


def _silent(privacy: Privacy) -> list[str]:
    named = {"singling out": privacy.singling_out, "linkability": privacy.linkability, "inference": privacy.inference}
    return [f"{name}: {attack.reason}" for name, attack in named.items() if attack.reason]
