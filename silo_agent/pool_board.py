"""The pool as people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from services.errors import InvalidArtifact
from services.mechanism import Event, Gaussian, Mechanism, Repeated, Sampled
from silo_agent.pool_index import Entry, Total, claim

_STYLE = {"pulled": "green", "refused": "red", "withdrawn": "yellow"}


def entry_facts(entry: Entry) -> dict[str, Any]:
    """A generator for programs."""
    listed, about = entry.listed, entry.listed.about
    try:
        mechanism, delta = claim(about.release)
    except InvalidArtifact:
        mechanism, delta = None, None
    return {
        "silo": listed.silo, "id": listed.digest, "run": about.run, "dataset": about.dataset, "family": about.family,
        "label": about.label, "mechanism": mechanism.model_dump(mode="json") if mechanism else None,
        "mechanism_in_words": in_words(mechanism) if mechanism else "malformed",
        "epsilon": entry.epsilon, "delta": delta, "bytes": listed.length, "sha256": listed.sha256,
        "seals": list(about.seals), "state": entry.state, "why": entry.why,
    }  # fmt: skip


def entries_table(entries: Sequence[Entry]) -> Table:
    """Generators for people, a line each."""
    table = _table("silo", "!generator", "family", "label", "run", "mechanism", "!>ε at δ", ">kB", "state")
    for entry in entries:
        facts = entry_facts(entry)
        # what came from others is text, never markup
        words = [Text(facts[key] or "") for key in ("family", "label", "run", "mechanism_in_words")]
        cost = f"{_number(entry.epsilon, '.2f')} at {_number(facts['delta'], 'g')}"
        state = Text(entry.state, style=_STYLE.get(entry.state, "")).append(f": {entry.why}" if entry.why else "")
        size = f"{entry.listed.length / 1000:,.1f}"
        table.add_row(Text(entry.listed.silo), entry.listed.digest[:12], *words, cost, size, state)
    return table


def totals_table(totals: Sequence[Total]) -> Table:
    """What each silo's generators cost its people together, a line for each data set."""
    table = _table("silo", "data set", ">generators", ">ε of all together", ">at δ")
    for one in totals:
        table.add_row(
            Text(one.silo), Text(one.dataset), str(one.generators), _number(one.epsilon, ".2f"), _number(one.delta, "g")
        )
    return table


def entry_table(facts: Mapping[str, Any]) -> Table:
    """One generator for people, a line for each thing that is known."""
    table = _table("", "")
    for key, value in facts.items():
        if key not in {"mechanism", "seals"} and value not in {None, ""}:
            table.add_row(key.replace("_", " "), Text(str(value)))
    return table


def in_words(mechanism: Mechanism) -> str:
    """A mechanism as people say it: `2 x (Gaussian, σ = 8)`, by label."""
    words = _event(mechanism.event)
    return f"{words}, in each part by {mechanism.partition}" if mechanism.partition else words


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


def _table(*headings: str) -> Table:
    """A table; `!` before a heading keeps its column wide enough, `>` puts it to the right."""
    table = Table(box=None, header_style="bold", show_header=any(headings))
    for heading in headings:
        justify = "right" if ">" in heading else "left"
        width = 12 if "!" in heading else None
        table.add_column(heading.lstrip("!>"), overflow="fold", min_width=width, justify=justify)  # type: ignore[arg-type]  # a literal
    return table
