"""The audit log as people read and check it: who, which artifact, which decision, under which version of the policy."""
# no `from __future__ import annotations`: typer reads an annotation that is made here

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from services.board import plain
from services.chain import AUDIT, Chain
from services.command import JsonOption, console, print_json, say
from services.seal import read_manifest
from services.state import State


def audit_commands(config_option: Any, default: Path, home: Callable[[Path], Path]) -> typer.Typer:
    """The `audit` commands of a program.

    Args:
        config_option: the annotated type of the program's `--config`.
        default: its default.
        home: finds the state folder that a configuration file names.
    """
    app = typer.Typer(no_args_is_help=True, help="Read and check the audit log.")

    @app.command()
    def show(config: config_option = default, as_json: JsonOption = False) -> None:
        """Show every decision: what was sealed, received, refused, joined and ended."""
        records = audit_records(home(config))
        if as_json:
            print_json(records)
        else:
            console.print(audit_table(records))

    @app.command()
    def verify(config: config_option = default) -> None:
        """Check, offline, that nobody rewrote the audit log."""
        count, head = verify_audit(home(config))
        say(f"{count} records, none changed, dropped or moved. Head:\n  {head}")

    return app


def audit_records(home: Path) -> list[dict[str, Any]]:
    """Every record of a party's audit log, oldest first.

    Raises:
        StateError: there is no state in `home`.
    """
    with State(home, writer=False) as state:
        return [{"number": link.number, **link.record, "head": link.head} for link in Chain(state, AUDIT).links()]


def verify_audit(home: Path) -> tuple[int, str]:
    """Recompute the log, and look for every head that the party's own signed manifests carried; works offline.

    Returns:
        How many records there are, and the head to compare with what others hold.

    Raises:
        StateError: the log was rewritten.
    """
    with State(home, writer=False) as state, state.snapshot():
        chain = Chain(state, AUDIT)
        return chain.verify(_carried(state)), chain.head


def audit_table(records: list[dict[str, Any]]) -> Table:
    """The log, a line each."""
    table = Table(box=None, header_style="bold")
    for heading in ("", "at", "event", "run", "what"):
        table.add_column(heading, overflow="fold", justify="right" if not heading else "left")
    for record in records:
        what = [record[key] for key in ("kind", "detail", "reason") if record.get(key)]
        what += [f"{key} {_words(value)}" for key, value in record.items() if key in {"to", "sender", "release"}]
        table.add_row(
            str(record["number"]),
            record["at"][:19],
            record["event"],
            plain(record.get("run", "")),
            plain(", ".join(what)),
        )
    return table


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def _carried(state: State) -> Iterator[str]:
    for row in state.rows("SELECT manifest FROM outbox"):
        yield read_manifest(row["manifest"]).header.heads[AUDIT]
