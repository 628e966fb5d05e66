"""The silo's command line."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Annotated

import typer

import protocols
from services import board
from services.alive import tell_alive
from services.audit import audit_commands
from services.backup_cli import backup_commands
from services.command import (
    JsonOption,
    LogForm,
    LogOption,
    NetworkOption,
    RunArgument,
    StartOption,
    bus_section,
    check_names,
    console,
    print_json,
    say,
    seen_from,
    store_section,
    write_new,
)  # fmt: skip
from services.config import read_yaml
from services.control import ask
from services.errors import RunFailed
from services.keyring import KeyRing
from services.runs import RunBook
from services.serving import serve
from services.state import State
from services.support_cli import support_command
from silo_agent import budget, enrolment_cli
from silo_agent.checks import run_checks
from silo_agent.pool import commands as pool_commands
from silo_agent.product import join_tables
from silo_agent.request import request
from silo_agent.settings import CONFIG_FILE, POLICY_TEXT, ConfigOption, config_text, load, load_policy
from silo_agent.wiring import open_party

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="An institution's program: it trains on the institution's own table and publishes only what policy allows.",
)  # fmt: skip
schema_app = typer.Typer(no_args_is_help=True, help="Work on the public schema of a table.")
app.add_typer(schema_app, name="schema")
_DEFAULT = Path(CONFIG_FILE)
app.add_typer(audit_commands(ConfigOption, _DEFAULT, lambda path: load(path).home), name="audit")
app.add_typer(backup_commands(ConfigOption, _DEFAULT, load, "silo-agent"))
app.add_typer(
    support_command(
        ConfigOption, _DEFAULT, "silo-agent", load,
        more=lambda config: {"policy": lambda: load_policy(config).model_dump(mode="json")},
        check=lambda to, path: run_checks(to, path, None, network=False, table=False),
    )
)  # fmt: skip
app.add_typer(budget.app, name="budget")
app.add_typer(pool_commands.app, name="pool")
app.command()(pool_commands.synthesize)
app.add_typer(enrolment_cli.app)
FileOption = Annotated[Path, typer.Option(exists=True, dir_okay=False, readable=True)]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder for the silo; made when absent.")],
    name: Annotated[str, typer.Option(help="This silo's name in the federation.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    store: Annotated[str, typer.Option(help="The federation's store: a folder, or https://HOST[:PORT]/BUCKET.")],
    bus: Annotated[str, typer.Option(help="The federation's event bus: an SQLite file, or amqps://HOST[:PORT].")],
    data: Annotated[Path | None, typer.Option(help="The silo's table (CSV or Parquet).")] = None,
) -> None:
    """Set up a silo: configuration, a policy that allows nothing yet, and keys that never leave this machine."""
    check_names(name, federation)
    table = seen_from(folder, data) if data else None
    wire = store_section(folder, store), bus_section(folder, bus)
    write_new(folder / CONFIG_FILE, config_text(name, federation, table, *wire))
    write_new(folder / "policy.yaml", POLICY_TEXT)
    config = load(folder / CONFIG_FILE)
    ring = KeyRing.create(config.home, name)
    say(f"Silo [bold]{name}[/] is set up in {folder}: review {CONFIG_FILE} and policy.yaml, then enrol.")
    say(f"Fingerprint:\n  [bold]{ring.public.fingerprint()}[/]")


@app.command()
def check(
    config: ConfigOption = _DEFAULT,
    spec: Annotated[Path | None, typer.Option(help="Check the table against this run specification too.")] = None,
    network: NetworkOption = False,
    start: StartOption = False,
) -> None:
    """Check configuration, policy, keys, store, bus, roster and data; says what to fix, and who must."""
    if not run_checks(console, config, spec, network=network, start=start):
        raise typer.Exit(code=1)


@app.command("serve")
def serve_command(
    config: ConfigOption = _DEFAULT,
    log_format: LogOption = LogForm.AUTO,
    until_idle: Annotated[
        float | None, typer.Option(min=0.0, metavar="MINUTES", help="End well when nothing was to do for that long.")
    ] = None,
) -> None:
    """Run the agent until it is told to stop; one that is not a member yet waits until it is."""
    settings = load(config)
    load_policy(settings)
    seconds = None if until_idle is None else 60 * until_idle
    serve(settings, lambda: open_party(settings), log_format, until_idle=seconds)


@app.command()
def alive(config: ConfigOption = _DEFAULT) -> None:
    """Ask the running agent whether it lives: exit status 0 or 1, for a container's health check."""
    monitoring = load(config).monitoring
    raise typer.Exit(tell_alive(monitoring.model_dump() if monitoring else None))


@app.command()
def status(
    run: Annotated[str | None, typer.Argument(help="One run; all by default.")] = None,
    config: ConfigOption = _DEFAULT,
    as_json: JsonOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the run ends.")] = False,
) -> None:
    """Show this silo's runs, or one run in full; with --wait, follow it, and fail if it fails."""
    settings = load(config)
    with State(settings.home, writer=False) as state:
        if run is not None:
            found = board.show(
                console,
                state,
                run,
                as_json=as_json,
                wait=wait,
                more=lambda one: request(one, settings.name, settings.dataset),
            )
            if wait and found.phase != "done":
                raise RunFailed(f"run {run} is {found.phase}: {found.detail}")
            return
        known = RunBook(state).all()
        if as_json:
            print_json([board.run_facts(state, one) for one in known])
        else:
            console.print(board.runs_table(known))


@app.command()
def approve(run: RunArgument, config: ConfigOption = _DEFAULT) -> None:
    """Let a run begin that waits for a person."""
    typer.echo(ask(load(config).home, "approve", run=run, by=_whoami()))


@app.command()
def decline(run: RunArgument, config: ConfigOption = _DEFAULT) -> None:
    """Refuse a run, or leave one that has not ended."""
    typer.echo(ask(load(config).home, "decline", run=run))


@app.command()
def release(
    run: RunArgument,
    to: Annotated[list[str], typer.Option(help="A recipient; repeat for several. The policy must name each.")],
    config: ConfigOption = _DEFAULT,
) -> None:
    """Send this silo's synthetic columns to others: sealed, and labelled unprotected."""
    typer.echo(ask(load(config).home, "release", run=run, to=to))


@app.command()
def join(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The CSV or Parquet file to write.")],
    config: ConfigOption = _DEFAULT,
) -> None:
    """Assemble one table from this silo's synthetic columns and those released to it."""
    settings = load(config)
    with State(settings.home, writer=False) as state:
        spec = RunBook(state).get(run).spec
    say(f"The joined table is {join_tables(settings.name, spec, settings.outputs / run, out)}")


@app.command()
def purge(run: RunArgument, config: ConfigOption = _DEFAULT) -> None:
    """Delete what this silo published for a run that has ended, and destroy its run key."""
    typer.echo(ask(load(config).home, "purge", run=run))


@app.command()
def evaluate(
    spec: Annotated[Path, typer.Option(help="The run specification, for schema and targets.")],
    real: Annotated[Path, typer.Option(help="Real rows that training saw.")],
    holdout: Annotated[Path, typer.Option(help="Real rows that no training saw.")],
    synthetic: Annotated[Path, typer.Option(help="The synthetic table.")],
    out: Annotated[Path, typer.Option(help="The folder for report.json and report.html.")],
    facts: Annotated[
        Path | None, typer.Option(help="JSON to show beside the measures: seconds, bytes, inversion.")
    ] = None,
) -> None:
    """Measure a synthetic table against real rows: for whoever may hold a whole table."""
    from silo_agent.evaluation import evaluate_files  # noqa: PLC0415 - learning libraries only when measuring

    evaluate_files(
        console,
        protocols.check_spec(read_yaml(spec), str(spec)),
        real=real,
        holdout=holdout,
        synthetic=synthetic,
        out=out,
        facts=facts,
    )


@schema_app.command()
def draft(file: Annotated[Path, typer.Argument(help="A CSV or Parquet table.")]) -> None:
    """Draft the public schema of a table for review: types and categories, bounds left blank."""
    from protocols.learning.draft import draft_columns  # noqa: PLC0415 - pandas only when reading a table

    typer.echo(draft_columns(file), nl=False)


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"user {os.getuid()}"
