"""The coordinator's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import protocols
from coordinator import provision as provisioned
from coordinator import roster
from coordinator.checks import run_checks
from coordinator.desk import CoordinatorDesk
from coordinator.settings import CONFIG_FILE, ConfigOption, CoordinatorConfig, config_text, load
from coordinator.trust import keyholders
from coordinator.trust.kept import KeptTrust
from coordinator.trust_cli import app as trust_app
from coordinator.trust_cli import tell
from services import board
from services.audit import audit_commands
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
    serve,
    store_section,
    write_new,
)  # fmt: skip
from services.config import read_yaml
from services.contract import Context
from services.control import Handler, ask
from services.errors import RunFailed
from services.runs import Run, RunBook
from services.state import State
from services.trust.tuf import News
from services.wiring import Assembly, assemble, load_keys, open_bus, open_store, trust_folder, wall_clock

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="The consortium's program: it keeps the roster, offers runs, and trains what no silo may train alone.",
)  # fmt: skip
app.add_typer(trust_app)
_DEFAULT = Path(CONFIG_FILE)
app.add_typer(audit_commands(ConfigOption, _DEFAULT, lambda path: load(path).home), name="audit")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder for the coordinator; made when absent.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    store: Annotated[str, typer.Option(help="The federation's store: a folder, or https://HOST[:PORT]/BUCKET.")],
    bus: Annotated[str, typer.Option(help="The federation's event bus: an SQLite file, or amqps://HOST[:PORT].")],
    name: Annotated[str, typer.Option(help="The coordinator's name.")] = "coordinator",
    keyholder: Annotated[
        list[Path] | None, typer.Option(help="A keyholder's public file (NAME.pub); repeat for several.")
    ] = None,
    threshold: Annotated[int, typer.Option(help="How many keyholders must sign each change.")] = 1,
) -> None:
    """Found a federation: configuration, keys, and a roster with the coordinator alone, for keyholders to sign."""
    check_names(name, federation)
    holders = keyholders.read(keyholder or [])
    config_path = folder / CONFIG_FILE
    write_new(config_path, config_text(name, federation, store_section(folder, store), bus_section(folder, bus)))
    settings = load(config_path)
    if not holders:
        first = keyholders.make("first", settings.keyholders)
        holders = {first.name: first.verify}
        say(f"You are the only keyholder: move {settings.keyholders} to a medium that is not always there.")
    outcome = roster.found(settings, holders, threshold)
    say(f"Federation [bold]{federation}[/] is founded. Its configuration is {config_path}.")
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
    """Run the coordinator until it is told to stop."""
    settings = load(config)
    parts = build(settings)
    desk = CoordinatorDesk(parts, roster.repository(settings).adopt)
    handlers: dict[str, Handler] = {"submit": desk.submit, "cancel": desk.cancel, "purge": parts.purge}
    serve(parts.party(desk), handlers, log_format)


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


def build(config: CoordinatorConfig) -> Assembly:
    """The coordinator's parts, from its configuration.

    Raises:
        SilokitError: keys, trust, store, bus or state cannot be used.
    """

    def context(run: Run, workspace: Path) -> Context:
        return Context(
            run=run.run, spec=run.spec, me=config.name, coordinator=config.name, silos=run.silos,
            workspace=workspace, device=config.device,
        )  # fmt: skip

    store = open_store(config.store)
    repository = roster.repository(config)
    repository.require_founded()

    def trust(news: News) -> KeptTrust:
        return KeptTrust(
            repository, store, federation=config.federation, folder=trust_folder(config), clock=wall_clock, news=news
        )

    return assemble(
        config=config,
        ring=load_keys(config),
        trust=trust,
        store=store,
        bus=open_bus(config),
        guard=lambda _run, _message, _to: "",  # what reaches the coordinator has passed the silos' policies
        load=lambda name: protocols.half(name, "coordinator"),
        context=context,
    )
