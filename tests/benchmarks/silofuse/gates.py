"""What the benchmark must show: bounds that fail it, and goals beyond them that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.silofuse.models import INDEPENDENT
from tests.benchmarks.silofuse.summary import EVERYWHERE, Summary, heading

Reading = Callable[[Summary], float]
"""Takes a figure from a summary; a KeyError where it was not measured."""


@dataclass(frozen=True)
class Gate:
    """A figure with a bound.

    Attributes:
        least: whether the bound is the least that will do, or the most.
        bound: none for a goal alone.
        goal: none for a bound alone.
    """

    what: str
    read: Reading
    bound: float | None
    goal: float | None = None
    least: bool = True
    digits: int = 1


@dataclass(frozen=True)
class Verdict:
    """A gate beside its figure; None throughout where it was not measured, or where there is no bound or goal."""

    gate: Gate
    value: float | None
    met: bool | None
    reached: bool | None


def judged(gates: Sequence[Gate], summary: Summary) -> list[Verdict]:
    """Hold every gate against the figures."""
    return [_judged(gate, summary) for gate in gates]


def _judged(gate: Gate, summary: Summary) -> Verdict:
    try:
        value = gate.read(summary)
    except KeyError:
        return Verdict(gate, None, None, None)

    def holds(bound: float | None) -> bool | None:
        return None if bound is None else value >= bound if gate.least else value <= bound

    return Verdict(gate, value, holds(gate.bound), holds(gate.goal))


def figure(table: str, model: str, measure: str) -> Reading:
    """A mean over seeds."""
    return lambda summary: summary[table, model][measure].mean


def ahead(table: str, ours: str, other: str, measure: str, *, least: bool = True) -> Reading:
    """How far one model is better than another; `least` where more is better."""
    mine, theirs = figure(table, ours, measure), figure(table, other, measure)
    return lambda summary: (mine(summary) - theirs(summary)) * (1 if least else -1)


def ratio(table: str, ours: str, other: str, measure: str) -> Reading:
    """One model's figure as a share of another's."""
    mine, theirs = figure(table, ours, measure), figure(table, other, measure)
    return lambda summary: mine(summary) / theirs(summary)


def _adult(model: str, resemblance: tuple[float, float], propensity: tuple[float, float],
           utility: tuple[float, float], seconds: tuple[float, float]) -> tuple[Gate, ...]:  # fmt: skip
    return (
        Gate(f"Adult, {model}: resemblance", figure("adult", model, "resemblance"), *resemblance),
        Gate(f"Adult, {model}: propensity", figure("adult", model, "propensity"), *propensity),
        Gate(f"Adult, {model}: utility of the income label", figure("adult", model, "utility_first"), *utility),
        Gate(f"Adult, {model}: seconds of training", figure("adult", model, "training"), *seconds, least=False),
    )


def _against(peer: str, *, gate: bool) -> tuple[Gate, ...]:
    bound, goal = (0.0, None) if gate else (None, 0.0)
    told = f"mean over tables, opaque ahead of {peer}"
    return (
        Gate(f"{told}: resemblance", ahead(EVERYWHERE, "opaque", peer, "resemblance"), bound, goal),
        Gate(
            f"{told}: detection AUC", ahead(EVERYWHERE, "opaque", peer, "detection", least=False), bound, goal, digits=3
        ),
        Gate(f"{told}: utility", ahead(EVERYWHERE, "opaque", peer, "utility"), bound, goal),
    )


def _vertical(table: str) -> Gate:
    return Gate(
        f"{heading(table)}: points of resemblance that being vertical costs",
        ahead(table, "pooled", "opaque", "resemblance"),
        None,
        2,
        least=False,
    )


FULL = (
    *_adult("opaque", (91, 93.7), (66, 76), (92, 97), (120, 60)),
    Gate("Adult, opaque: memorisation", figure("adult", "opaque", "memorisation"), 0.55, least=False, digits=3),
    *_adult("layout", (92.5, 94), (70, 78), (95, 98), (60, 20)),
    Gate("Abalone, opaque: resemblance", figure("abalone", "opaque", "resemblance"), 90, 92.5),
    Gate("Abalone, opaque: utility", figure("abalone", "opaque", "utility"), None, 95),
    *_against("ctgan-timed", gate=True),
    *_against("tvae-timed", gate=True),
    *_against("ctgan", gate=False),
    *_against("tvae", gate=False),
    *(
        Gate(
            f"mean over tables, opaque's training as a share of {peer}'s",
            ratio(EVERYWHERE, "opaque", peer, "training"),
            None,
            0.1,
            least=False,
            digits=2,
        )
        for peer in ("ctgan", "tvae")
    ),
    *(_vertical(table) for table in ("adult", "abalone", "support2")),
    Gate("Adult, opaque: synthetic rows per second", figure("adult", "opaque", "speed"), 10_000, 100_000, digits=0),
)
"""Bounds and goals of the whole benchmark: means over its seeds."""


def short(forms: Sequence[str]) -> tuple[Gate, ...]:
    """What little training on few rows must show, even on a busy machine: gross faults alone fail it."""
    return tuple(gate for form in forms for gate in _short(form))


def _short(form: str) -> tuple[Gate, ...]:
    def above(measure: str) -> Reading:
        return ahead("support2", form, INDEPENDENT, measure)

    behind = ahead("support2", "pooled", form, "resemblance")
    return (
        Gate(f"{form}: points of propensity above independent columns", above("propensity"), 20),
        Gate(f"{form}: points of correlation above independent columns", above("correlation"), 2),
        Gate(f"{form}: memorisation", figure("support2", form, "memorisation"), 0.6, least=False, digits=3),
        Gate(f"{form}: points of resemblance behind the pooled model", behind, 5, least=False),
        Gate(f"{form}: synthetic rows per second", figure("support2", form, "speed"), 20, digits=0),
    )
