"""What the silo's data sets have paid in privacy, as people read and check it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.command import JsonOption, console, print_json, say
from services.ledger import Account, Ledger
from services.state import State
from silo_agent.settings import CONFIG_FILE, ConfigOption, load, load_policy

_DEFAULT = Path(CONFIG_FILE)
_WIDTH = 24
_WARM, _HOT = 0.5, 0.9
"""From these shares of a ceiling on, its bar is yellow, and red."""

app = typer.Typer(help="Show and check what the data sets have paid in privacy.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context, config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show what every data set has paid of its ceiling for life, and in which runs."""
    if context.invoked_subcommand is not None:
        return
    settings = load(config)
    with State(settings.home, writer=False) as state:
        accounts = Ledger(state).accounts(load_policy(settings).datasets)
    if as_json:
        print_json([account_facts(one) for one in accounts])
    elif accounts:
        console.print(accounts_table(accounts))
    else:
        say("The policy registers no data set, and none has paid anything.")


@app.command()
def verify(config: ConfigOption = _DEFAULT) -> None:
    """Check, offline, that nobody rewrote the ledger, and that it has paid for exactly what left."""
    with State(load(config).home, writer=False) as state, state.snapshot():
        ledger = Ledger(state)
        count, head = ledger.verify(), ledger.head
    say(f"{count} entries, none changed, dropped or moved; what left is what was paid for. Head:\n  {head}")


def account_facts(account: Account) -> dict[str, Any]:
    """An account for programs."""
    budget = account.budget.model_dump() if account.budget else None
    return {
        "dataset": account.dataset, "spent": account.spent, "share": account.share, "budget": budget,
        "adjacency": account.adjacency,
        "runs": [vars(run) | {"approvers": list(run.approvers)} for run in account.runs],
    }  # fmt: skip


def accounts_table(accounts: Sequence[Account]) -> Group:
    """Accounts for people: a bar per data set, and what its runs have cost."""
    life = _table("data set", "spent for life", "", ">ε", ">of", ">at δ", "adjacency")
    runs = _table("run", "data set", ">ε", ">of", ">at δ", "adjacency", ">sealed", "since", "approved by")
    for account in accounts:
        budget = account.budget
        if budget is None or account.share is None or account.spent is None:
            life.add_row(account.dataset, "not registered", "", "", "", "", account.adjacency)
        else:
            share = f"{account.share:.0%}"
            life.add_row(
                account.dataset, _bar(account.share), share, f"{account.spent:.2f}", f"{budget.epsilon_for_life:g}",
                f"{budget.delta:g}", account.adjacency,
            )  # fmt: skip
        for run in account.runs:
            runs.add_row(
                run.run, account.dataset, f"{run.epsilon:.2f}", f"{budget.epsilon_per_run:g}" if budget else "",
                f"{run.delta:g}", run.adjacency, f"{run.committed} of {run.reserved}", run.since[:10],
                ", ".join(run.approvers),
            )  # fmt: skip
    if not runs.row_count:
        return Group(life)
    return Group(life, Text(" the bar is what adds up from run to run; ε does not", style="dim"), "", runs)


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in headings:
        table.add_column(heading.lstrip(">"), overflow="fold", justify="right" if heading.startswith(">") else "left")
    return table


def _bar(share: float) -> Text:
    # what is spent shows, however little, and a bar is full only when nothing is left
    full = min(_WIDTH, max(int(share > 0), int(share * _WIDTH)))
    colour = "red" if share >= _HOT else "yellow" if share >= _WARM else "green"
    return Text("█" * full, style=colour).append("░" * (_WIDTH - full), style="dim")
