"""Anonymeter's three attacks (Giomi et al., PoPETs 2023) on training rows, on held-out rows, and by mere guessing.

What succeeds as often on held-out people as on those that training saw is knowledge about the population; only the
excess is a leak. Queries, successes and intervals are Anonymeter's. Targets, neighbours and
baselines are ours, because its version 1.1 draws them from generators without a seed, guesses at misaligned rows, lets
a missing value spoil a distance, and compiles for seconds in every process.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anonymeter.evaluators import SinglingOutEvaluator
from anonymeter.evaluators.inference_evaluator import evaluate_inference_guesses
from anonymeter.evaluators.linkability_evaluator import LinkabilityIndexes
from anonymeter.stats.confidence import EvaluationResults
from numpy.typing import NDArray

from protocols.learning.evaluate.arrays import Floats, Space, categories
from protocols.learning.evaluate.report import Attack
from protocols.learning.schema import Category, Columns, Date, Integer, Number

ATTACKS = 300
"""Targets of each attack: its rate's 95% interval is then at most 6 points to either side."""

MOST_ROWS = 5000
"""Synthetic rows that an attacker searches at most."""

QUERY_COLUMNS = 4
QUERY_ATTEMPTS = 30_000
"""Conditions in a query; queries tried at most until `ATTACKS` of them single out a synthetic row."""

NEIGHBOURS = 10
"""Synthetic neighbours of each half of a person's columns: one in common links the halves."""

SECRETS = 5
"""Columns that inference attacks guess at most, each from all others."""


@dataclass(frozen=True)
class Attacked:
    """The three tables, as matrices [rows, columns], and the seed of who is attacked."""

    training: Floats
    held_out: Floats
    synthetic: Floats
    columns: Columns
    seed: int

    def telling(self, column: str) -> Attacked:
        """The rows whose value in a column is known."""
        place = list(self.columns).index(column)
        tables = (self.training, self.held_out, self.synthetic)
        training, held_out, synthetic = (table[~np.isnan(table[:, place])] for table in tables)
        return Attacked(training, held_out, synthetic, self.columns, self.seed)

    def draw(self, stream: int, count: int = ATTACKS) -> tuple[Floats, Floats, Floats]:
        """Targets, as many held-out ones for control, and the synthetic rows to search."""
        count = min(count, len(self.training), len(self.held_out))
        sizes = ((self.training, count), (self.held_out, count), (self.synthetic, MOST_ROWS))
        rng = np.random.default_rng([self.seed, stream])
        targets, control, searched = (table[rng.permutation(len(table))[:size]] for table, size in sizes)
        return targets, control, searched


def singling_out(tables: Attacked) -> Attack:
    """Conditions on a few columns that single out one synthetic row: do they single out a real one?

    The real rows are as many of training as were held out, since the chance to be alone falls with their number.
    """
    drawn = tables.draw(1, count=len(tables.held_out))
    training, control, synthetic = (_records(table, tables.columns).drop_duplicates() for table in drawn)
    size = min(len(training), len(control))
    with _listening() as heard:
        evaluator = SinglingOutEvaluator(
            ori=training.head(size),
            control=control.head(size),
            syn=synthetic,
            n_attacks=ATTACKS,
            n_cols=min(QUERY_COLUMNS, len(tables.columns)),
            max_attempts=QUERY_ATTEMPTS,
            seed=tables.seed,
        ).evaluate()
        results = evaluator.results()
    if any("could generate only" in message for message in heard):
        return Attack(reason="too few conditions single out a synthetic row: the columns hold too few values")
    return _attack(
        results, _alone_by_chance(drawn[0][:size], drawn[2], tables.columns, np.random.default_rng([tables.seed, 9]))
    )


def linkability(tables: Attacked) -> Attack:
    """Half of a person's columns here, half there: do both have a synthetic neighbour in common?"""
    if len(tables.columns) < 2:
        return Attack(reason="one column cannot be linked to another")
    targets, control, synthetic = tables.draw(2)
    names, neighbours = list(tables.columns), min(NEIGHBOURS, len(synthetic) // 2)
    halves = [_Near(tables.columns, part, synthetic) for part in (names[: len(names) // 2], names[len(names) // 2 :])]
    linked, linked_control = (
        LinkabilityIndexes(*(half.neighbours(rows, neighbours) for half in halves)).count_links(neighbours)
        for rows in (targets, control)
    )
    missed = math.comb(len(synthetic) - neighbours, neighbours) / math.comb(len(synthetic), neighbours)
    return _attack(_results(len(targets), linked, linked_control), 1 - missed)


def inference(tables: Attacked, secrets: Sequence[str]) -> Attack:
    """All columns of a person but one: does the nearest synthetic row tell that one? The mean over some secrets.

    A quantity counts as told within 5% of its height over its public minimum.
    """
    if len(tables.columns) < 2:
        return Attack(reason="there is no other column to infer one from")
    counts, chances = np.zeros(3, dtype=np.int64), []
    for number, secret in enumerate(secrets):
        targets, control, synthetic = tables.telling(secret).draw(3 + number)
        if min(len(targets), len(synthetic)) < NEIGHBOURS:
            continue
        near = _Near(tables.columns, [name for name in tables.columns if name != secret], synthetic)
        truth, truth_control, values = (
            _heights(rows, tables.columns, secret) for rows in (targets, control, synthetic)
        )
        regression = not isinstance(tables.columns[secret], Category)
        hits, hits_control = (
            _hits(values[near.neighbours(rows, 1)[:, 0]], true, regression)
            for rows, true in ((targets, truth), (control, truth_control))
        )
        counts += len(targets), hits, hits_control
        chances.append(np.mean([_hits(values, np.full(len(values), one), regression) for one in truth]) / len(values))
    if not chances:
        return Attack(reason="no secret has enough known values")
    return _attack(_results(*map(int, counts)), float(np.mean(chances)))


def _attack(results: EvaluationResults, baseline: float) -> Attack:
    known = Attack(
        attack=results.n_success / results.n_attacks_ori,
        control=results.n_control / results.n_attacks_control,
        baseline=baseline,
        attacks=results.n_attacks_ori,
    )
    if results.n_success / results.n_attacks_ori <= baseline:
        return known.model_copy(update={"reason": "the attack does no better than guessing, so it tells nothing"})
    if results.n_control >= results.n_attacks_control:
        return known.model_copy(update={"reason": "the attack always succeeds on held-out rows too"})
    risk = results.risk()
    return known.model_copy(update={"risk": risk.value, "risk_low": risk.ci[0], "risk_high": risk.ci[1]})


def _results(attacks: int, successes: int, control: int) -> EvaluationResults:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its judgement on baseline and control is repeated in `_attack`
        return EvaluationResults(n_attacks=attacks, n_success=successes, n_baseline=0, n_control=control)


class _Near:
    """Finds synthetic rows near to others by what an attacker knows: some of the columns."""

    def __init__(self, columns: Columns, names: Sequence[str], synthetic: Floats) -> None:
        self._places = [place for place, name in enumerate(columns) if name in names]
        self._space = Space({name: columns[name] for name in columns if name in names}, synthetic[:, self._places])

    def neighbours(self, rows: Floats, count: int) -> NDArray[np.int64]:
        """The nearest synthetic rows [n, count] of rows [n, columns]."""
        return self._space.neighbours(rows[:, self._places], count)


def _alone_by_chance(rows: Floats, synthetic: Floats, columns: Columns, rng: np.random.Generator) -> float:
    """How often a query made at random singles out a row: as many conditions, each on any value of a column.

    Anonymeter's own draws follow the order of `polars.unique`, which changes from run to run.
    """
    named, comparisons = categories(columns), (np.equal, np.not_equal, np.less, np.greater)
    alone = 0
    for _ in range(ATTACKS):
        found = np.full(len(rows), fill_value=True)
        for place in rng.permutation(len(columns))[:QUERY_COLUMNS]:
            value = rng.choice(np.unique(synthetic[:, place]))
            compare = comparisons[rng.integers(2 if place in named else 4)]
            found &= np.isnan(rows[:, place]) if np.isnan(value) else compare(rows[:, place], value)
        alone += found.sum() == 1
    return float(alone / ATTACKS)


def _records(table: Floats, columns: Columns) -> pd.DataFrame:
    """Rows as queries read them: neutral names, quantities as they are, labels as digits, missing as null.

    Anonymeter would take a name like `^age$` for a pattern, and escapes quotes in labels.
    """
    named = categories(columns)
    return pd.DataFrame(
        {
            f"c{place}": pd.array(values, dtype="Int64").astype("string")
            if place in named
            else pd.array(values, dtype="Float64")
            for place, values in enumerate(table.T)
        }
    )


def _heights(table: Floats, columns: Columns, secret: str) -> Floats:
    """A column's values; those of a quantity counted from its public minimum: Anonymeter's tolerance is relative."""
    values, column = table[:, list(columns).index(secret)], columns[secret]
    if isinstance(column, Number | Integer):
        return values - column.min
    return values - float(np.datetime64(column.min).astype(int)) if isinstance(column, Date) else values


def _hits(guesses: Floats, secrets: Floats, regression: bool) -> int:
    return int(evaluate_inference_guesses(pd.Series(guesses), pd.Series(secrets), regression).sum())


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collects what Anonymeter logs and warns of, instead of letting it print."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger, listener = logging.getLogger("anonymeter"), Listener(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its judgement on baseline and control is repeated in `_attack`
            yield heard
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagates
