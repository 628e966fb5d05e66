"""The coordinator's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import protocols
from coordinator import provision as provisioned
from coordinator import roster
from coordinator.checks import run_checks
from coordinator.settings import CONFIG_FILE, ConfigOption, CoordinatorConfig, config_text, load
from coordinator.trust import keyholders
from coordinator.trust_cli import app as trust_app
from coordinator.trust_cli import tell
from coordinator.wiring import open_party
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
    store_section,
    write_new,
)  # fmt: skip
from services.config import read_yaml
from services.control import ask
from services.errors import RunFailed, TrustError
from services.home import holds_party
from services.keys import VerifyKey
from services.runs import RunBook
from services.serving import serve
from services.state import State
from services.support_cli import support_command

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="The consortium's program: it keeps the roster, offers runs, and trains what no silo may train alone.",
)  # fmt: skip
app.add_typer(trust_app)
_DEFAULT = Path(CONFIG_FILE)
KeyholderOption = Annotated[
    list[Path] | None, typer.Option(help="A keyholder's public file (NAME.pub); repeat for several.")
]
ThresholdOption = Annotated[int, typer.Option(help="How many keyholders must sign each change.")]
app.add_typer(audit_commands(ConfigOption, _DEFAULT, lambda path: load(path).home), name="audit")
app.add_typer(backup_commands(ConfigOption, _DEFAULT, load, "coordinator"))
app.add_typer(
    support_command(
        ConfigOption, _DEFAULT, "coordinator", load,
        more=lambda _: {}, check=lambda to, path: run_checks(to, path, network=False),
    )
)  # fmt: skip


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder for the coordinator; made when absent.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    store: Annotated[str, typer.Option(help="The federation's store: a folder, or https://HOST[:PORT]/BUCKET.")],
    bus: Annotated[str, typer.Option(help="The federation's event bus: an SQLite file, or amqps://HOST[:PORT].")],
    name: Annotated[str, typer.Option(help="The coordinator's name.")] = "coordinator",
    keyholder: KeyholderOption = None,
    threshold: ThresholdOption = 1,
) -> None:
    """Found a federation: configuration, keys, and a roster with the coordinator alone, for keyholders to sign."""
    check_names(name, federation)
    holders = keyholders.read(keyholder or [])
    config_path = folder / CONFIG_FILE
    write_new(config_path, config_text(name, federation, store_section(folder, store), bus_section(folder, bus)))
    _found(load(config_path), holders, threshold)
    say(f"Its configuration is {config_path}.")


@app.command()
def found(keyholder: KeyholderOption = None, threshold: ThresholdOption = 1, config: ConfigOption = _DEFAULT) -> None:
    """Found the federation of a configuration that is there already, as in a container; else as `init`."""
    _found(load(config), keyholders.read(keyholder or []), threshold)


def _found(settings: CoordinatorConfig, holders: dict[str, VerifyKey], threshold: int) -> None:
    if holds_party(settings.home):
        raise TrustError(
            f"{settings.home} holds a coordinator already", fix="keep it, or move it away first", kept="its keys"
        )
    if not holders:
        first = keyholders.make("first", settings.keyholders)
        holders = {first.name: first.verify}
        say(f"You are the only keyholder: move {settings.keyholders} to a medium that is not always there.")
    outcome = roster.found(settings, holders, threshold)
    say(f"Federation [bold]{settings.federation}[/] is founded.")
    tell(outcome)
    say(f"Root fingerprint, to read to every silo by telephone:\n  [bold]{outcome.fingerprint}[/]")


@app.command()
def provision(
    out: Annotated[Path, typer.Argument(help="A folder for the files; made when absent.")],
    server: Annotated[
        list[str] | None, typer.Option(help="A name or address of broker or store, for their certificate; repeatable.")
    ] = None,
    config: ConfigOption = _DEFAULT,
) -> None:
    """Write what broker and store need to know of every member; run it again when the roster changes."""
    for path in provisioned.provision(load(config), out, tuple(server or ())):
        say(str(path))


@app.command()
def check(config: ConfigOption = _DEFAULT, network: NetworkOption = False, start: StartOption = False) -> None:
    """Check configuration, keys, store, bus, roster and trust repository; says what to fix, and who must."""
    if not run_checks(console, config, network=network, start=start):
        raise typer.Exit(code=1)


@app.command("serve")
def serve_command(
    config: ConfigOption = _DEFAULT,
    log_format: LogOption = LogForm.AUTO,
) -> None:
    """Run the coordinator until it is told to stop; one whose federation is not founded yet waits until it is."""
    settings = load(config)
    serve(settings, lambda: open_party(settings), log_format)


@app.command()
def alive(config: ConfigOption = _DEFAULT) -> None:
    """Ask the running coordinator whether it lives: exit status 0 or 1, for a container's health check."""
    monitoring = load(config).monitoring
    raise typer.Exit(tell_alive(monitoring.model_dump() if monitoring else None))


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(help="The run specification (YAML).")],
    config: ConfigOption = _DEFAULT,
) -> None:
    """Offer a run to its silos; prints the run's identifier."""
    value: Any = read_yaml(spec)
    protocols.check_spec(value, str(spec))  # so that problems name the file, with no service running
    typer.echo(ask(load(config).home, "submit", value=value))


@app.command()
def runs(config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show all runs."""
    with State(load(config).home, writer=False) as state:
        found = RunBook(state).all()
        if as_json:
            print_json([board.run_facts(state, run) for run in found])
        else:
            console.print(board.runs_table(found))


@app.command()
def show(
    run: RunArgument,
    config: ConfigOption = _DEFAULT,
    as_json: JsonOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the run ends.")] = False,
) -> None:
    """Show one run; with --wait, follow it, and fail if it fails."""
    with State(load(config).home, writer=False) as state:
        found = board.show(console, state, run, as_json=as_json, wait=wait)
    if wait and found.phase != "done":
        raise RunFailed(f"run {run} is {found.phase}: {found.detail}")


@app.command()
def cancel(run: RunArgument, config: ConfigOption = _DEFAULT) -> None:
    """End a run at every party."""
    typer.echo(ask(load(config).home, "cancel", run=run))


@app.command()
def purge(run: RunArgument, config: ConfigOption = _DEFAULT) -> None:
    """Delete what the coordinator published for a run that has ended, and destroy its run key."""
    typer.echo(ask(load(config).home, "purge", run=run))
