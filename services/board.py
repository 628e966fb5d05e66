"""What people look at: tables that line up and bars that move, from the state file of a party."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.runs import Run, RunBook
from services.state import LIVE, State

_STYLE = {"done": "green", "failed": "red", "declined": "red", "cancelled": "yellow", "running": "cyan"}


def run_facts(state: State, run: Run) -> dict[str, Any]:
    """A run as JSON: for `--json`, and for whoever builds on it."""
    steps = state.rows("SELECT step, finished, seconds FROM steps WHERE run=? ORDER BY finished", run.run)
    sent = state.rows("SELECT kind, recipients, bytes, sent FROM outbox WHERE run=? ORDER BY sequence", run.run)
    return {
        "run": run.run,
        "protocol": run.protocol,
        "phase": run.phase,
        "detail": run.detail,
        "created": run.created.isoformat(),
        "deadline": run.deadline.isoformat(),
        "ended": run.ended.isoformat() if run.ended else None,
        "silos": list(run.silos),
        "joined": sorted(run.parties),
        "awaited": list(run.awaited()),
        "progress": dict(run.progress),
        "steps": [{"step": s["step"], "finished": s["finished"], "seconds": round(s["seconds"], 3)} for s in steps],
        "sent": [
            {"kind": s["kind"], "to": s["recipients"].split(), "bytes": s["bytes"], "sent": s["sent"]} for s in sent
        ],
    }


def runs_table(runs: Sequence[Run]) -> Table:
    """All runs, a line each."""
    table = Table(title="Runs" if runs else "No runs yet", box=None, header_style="bold", title_justify="left")
    for heading in ("run", "protocol", "phase", "joined", "doing", "detail"):
        table.add_column(heading, overflow="fold", no_wrap=heading in {"run", "phase"})
    for run in runs:
        joined = sum(silo in run.parties for silo in run.silos)
        phase = f"[{_STYLE[run.phase]}]{run.phase}[/]" if run.phase in _STYLE else run.phase
        doing = _doing(run) if run.phase in LIVE else ""
        table.add_row(run.run, plain(run.protocol), phase, f"{joined}/{len(run.silos)}", doing, plain(run.detail))
    return table


def show(
    console: Console,
    state: State,
    name: str,
    *,
    as_json: bool,
    wait: bool,
    more: Callable[[Run], Mapping[str, Mapping[str, Any]]] = lambda _: {},
) -> Run:
    """Show one run, after it has ended if `wait`; returns it.

    Args:
        console: where to.
        state: the party's state.
        name: the run's identifier.
        as_json: for programs.
        wait: until the run has ended.
        more: what the program tells of a run besides; each part becomes a table, and a key of the JSON.
    """
    book = RunBook(state)
    run = _follow(console, book, name) if wait and not as_json else book.get(name)
    while wait and run.phase in LIVE:
        time.sleep(0.3)
        run = book.get(name)
    facts, parts = run_facts(state, run), more(run)
    if as_json:
        console.print_json(data={**facts, **parts})
        return run
    console.print(runs_table([run]))
    for heading, part in parts.items():
        console.print(_part_table(heading, part))
    steps = Table(box=None, header_style="bold")
    for heading in ("step", "finished", "seconds"):
        steps.add_column(heading, justify="right" if heading == "seconds" else "left")
    for step in facts["steps"]:
        steps.add_row(step["step"], step["finished"][:19], f"{step['seconds']:.2f}")
    sent = Table(box=None, header_style="bold")
    for heading in ("sent", "to", "bytes"):
        sent.add_column(heading, justify="right" if heading == "bytes" else "left")
    for artifact in facts["sent"]:
        sent.add_row(artifact["kind"], ", ".join(artifact["to"]), f"{artifact['bytes']:,}")
    console.print(steps, sent)
    return run


def _part_table(heading: str, part: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column(heading)
    table.add_column(overflow="fold")
    for name, about in part.items():
        table.add_row(plain(name), plain(_words(about)))
    return table


def _words(about: Any) -> str:
    if isinstance(about, Mapping):
        told = {key: value for key, value in about.items() if value is not None and value is not False}
        return ", ".join(f"{key} {_words(value)}" for key, value in told.items())
    return ", ".join(map(str, about)) if isinstance(about, list) else str(about)


def _follow(console: Console, book: RunBook, name: str) -> Run:
    """Show a run's progress until it ends; returns how it ended."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip
    with bar:
        task = bar.add_task(name, total=None)
        while (run := book.get(name)).phase in LIVE:
            progress = run.progress
            bar.update(
                task,
                description=f"{run.phase}: {progress.get('phase', 'waiting')}",
                completed=progress.get("done", 0),
                total=progress.get("total"),
            )
            time.sleep(0.3)
        bar.update(task, description=run.phase, completed=1, total=1)
    return run


def plain(text: str) -> str:
    """Words that came from somebody else: neither markup nor a terminal's control sequences."""
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def _doing(run: Run) -> str:
    if not run.progress:
        return f"awaits {', '.join(run.awaited())}" if run.awaited() else ""
    progress = run.progress
    loss = f", loss {progress['loss']:.4g}" if progress.get("loss") is not None else ""
    return f"{progress['phase']} {progress['done']}/{progress['total']}{loss}"
