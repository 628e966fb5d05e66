"""The pool as people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from services.errors import InvalidArtifact
from services.mechanism import Event, Gaussian, Mechanism, Repeated, Sampled
from silo_agent.pool.index import Entry, Total, claim

_STYLE = {"pulled": "green", "refused": "red", "withdrawn": "yellow"}


def entry_facts(entry: Entry) -> dict[str, Any]:
    """A generator for programs."""
    listed, about = entry.listed, entry.listed.about
    words, delta = _claimed(about.release)
    return {
        "silo": listed.silo, "id": listed.digest, "run": about.run, "dataset": about.dataset, "family": about.family,
        "label": about.label, "mechanism": words, "release": about.release, "epsilon": entry.epsilon, "delta": delta,
        "bytes": listed.length, "sha256": listed.sha256, "seals": list(about.seals),
        "state": entry.state, "why": entry.why,
    }  # fmt: skip


def entries_text(entries: Sequence[Entry], *, colour: bool = False) -> str:
    """Generators for people, a line each; lines do not fold, for a pool is long and is searched and cut by tools.

    Args:
        entries: in their order.
        colour: paint what became of them.
    """
    rows = [("silo", "generator", "family", "label", "run", "mechanism", "ε at δ", "kB", "state")]
    for entry in entries:
        listed, about = entry.listed, entry.listed.about
        words, delta = _claimed(about.release)
        why = f": {entry.why}" if entry.why else ""
        rows.append(
            (
                *(listed.silo, listed.digest[:12], about.family or "", about.label or "", about.run, words),
                f"{_number(entry.epsilon, '.2f')} at {_number(delta, 'g')}", f"{listed.length / 1000:,.1f}",
                _plain(f"{entry.state}{why}"),
            )
        )  # fmt: skip
    return _aligned(rows, [_STYLE.get(entry.state) for entry in entries] if colour else None)


def totals_text(totals: Sequence[Total], *, colour: bool = False) -> str:
    """What each silo's generators cost its people together, a line for each data set; see `entries_text`, `Total`."""
    rows = [("silo", "generators", "ε of these together", "data set")]
    for one in totals:
        cost = f"{_number(one.epsilon, '.2f')} at {_number(one.delta, 'g')}"
        rows.append((one.silo, str(one.generators), cost, one.dataset))
    return _aligned(rows, [None] * len(totals) if colour else None)


def entry_table(facts: Mapping[str, Any]) -> Table:
    """One generator for people, a line for each thing that is known."""
    table = Table(box=None, show_header=False)
    for key, value in facts.items():
        if key not in {"release", "seals"} and value not in {None, ""}:
            table.add_row(key.replace("_", " "), Text(_plain(str(value))))
    return table


def in_words(mechanism: Mechanism) -> str:
    """A mechanism as people say it: `2 x (Gaussian, σ = 8)`, by label."""
    words = _event(mechanism.event)
    return f"{words}, in each part by {mechanism.partition}" if mechanism.partition else words


def _aligned(rows: Sequence[tuple[str, ...]], colours: Sequence[str | None] | None) -> str:
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    lines = ["  ".join((*map(str.ljust, row, widths), row[-1])) for row in rows]
    if colours is not None:
        painted = [typer.style(line, fg=one) for line, one in zip(lines[1:], colours, strict=True)]
        lines = [typer.style(lines[0], bold=True), *painted]
    return "\n".join(lines)


@lru_cache(maxsize=4096)
def _claimed(release: str) -> tuple[str, float | None]:
    """A claim's mechanism in words, and its δ."""
    try:
        mechanism, delta = claim(release)
    except InvalidArtifact:
        return "malformed", None
    return _plain(in_words(mechanism)), delta


def _plain(text: str) -> str:
    """Words that came from somebody else: no control sequences of a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _event(event: Event) -> str:
    if isinstance(event, Gaussian):
        return f"Gaussian, σ = {event.noise_multiplier:g}"
    if isinstance(event, Sampled):
        return f"Gaussian on a sample of {event.rate:g}, σ = {event.noise_multiplier:g}"
    if isinstance(event, Repeated):
        return f"{event.count:,} x ({_event(event.of)})"
    return " + ".join(_event(part) for part in event.of)


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)
