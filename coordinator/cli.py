"""The coordinator's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import protocols
from coordinator import provision as provisioned
from coordinator import roster
from coordinator.desk import CoordinatorDesk
from coordinator.settings import CONFIG_FILE, ConfigOption, CoordinatorConfig, config_text, load
from services import audit, board
from services.command import (
    JsonOption,
    LogForm,
    LogOption,
    RunArgument,
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
from services.errors import ConfigError, RunFailed
from services.runs import Run, RunBook
from services.state import State
from services.wiring import Assembly, assemble, load_identity, load_root, open_bus, open_store

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="The consortium's program: it keeps the roster, offers runs, and trains what no silo may train alone.",
)  # fmt: skip
audit_app = typer.Typer(no_args_is_help=True, help="Read and check the audit log.")
app.add_typer(audit_app, name="audit")
_DEFAULT = Path(CONFIG_FILE)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder for the coordinator; made when absent.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    store: Annotated[str, typer.Option(help="The federation's store: a folder, or https://HOST[:PORT]/BUCKET.")],
    bus: Annotated[str, typer.Option(help="The federation's event bus: an SQLite file, or amqps://HOST[:PORT].")],
    name: Annotated[str, typer.Option(help="The coordinator's name.")] = "coordinator",
) -> None:
    """Found a federation: configuration, keys, root key, and a roster with the coordinator alone."""
    check_names(name, federation)
    config_path = folder / CONFIG_FILE
    write_new(config_path, config_text(name, federation, store_section(folder, store), bus_section(folder, bus)))
    shown = roster.found(load(config_path))
    say(f"Federation [bold]{federation}[/] is founded. Its configuration is {config_path}.")
    say(f"Root fingerprint, to read to every silo by telephone:\n  [bold]{shown}[/]")


@app.command()
def admit(
    request: Annotated[Path, typer.Argument(help="The silo's enrolment request.")],
    fingerprint: Annotated[str | None, typer.Option(help="The fingerprint that the silo read to you.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the admission file.")] = None,
    config: ConfigOption = _DEFAULT,
) -> None:
    """Admit a silo after comparing fingerprints, and publish the new roster."""
    settings = load(config)
    enrolment = roster.read_enrolment(settings, request)
    identity = enrolment.identity
    shown = identity.fingerprint()
    say(f"[bold]{identity.name}[/] shows the fingerprint\n  [bold]{shown}[/]")
    if fingerprint is None:
        typer.confirm("Did the silo read you exactly this, by telephone?", abort=True)
    elif fingerprint.replace(" ", "").upper() != shown.replace(" ", ""):
        raise ConfigError(
            f"{identity.name}'s request has another fingerprint than the one you gave",
            fix="ask the silo to read its fingerprint again; somebody may have swapped the request",
            kept="the roster stays as it is",
        )
    target = out or request.with_name(f"admission-{identity.name}.json")
    published = roster.admit(settings, enrolment, target)
    say(f"Admitted: roster version {published.version}. Send [bold]{target}[/] to the silo.")
    say(f"Root fingerprint, to read to the silo:\n  [bold]{roster.root_fingerprint(settings)}[/]")


@app.command()
def renew(config: ConfigOption = _DEFAULT) -> None:
    """Publish the roster anew before it expires."""
    published = roster.renew(load(config))
    say(f"Roster version {published.version} holds until {published.expires:%Y-%m-%d}.")


@app.command()
def members(config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show who belongs to the federation, with fingerprints."""
    published = roster.members(load(config))
    if as_json:
        print_json(published.model_dump(mode="json"))
        return
    table = Table(box=None, header_style="bold")
    for heading in ("member", "fingerprint"):
        table.add_column(heading, no_wrap=True)
    for identity in published.members.values():
        table.add_row(identity.name, identity.fingerprint())
    console.print(table)
    say(f"Roster version {published.version}, until {published.expires:%Y-%m-%d}.")


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


@app.command("serve")
def serve_command(
    config: ConfigOption = _DEFAULT,
    log_format: LogOption = LogForm.AUTO,
) -> None:
    """Run the coordinator until it is told to stop."""
    settings = load(config)
    parts = build(settings)
    desk = CoordinatorDesk(parts)

    def meet_store() -> None:
        parts.meet_store()
        roster.publish(settings)

    handlers: dict[str, Handler] = {"submit": desk.submit, "cancel": desk.cancel, "purge": parts.purge}
    serve(parts.party(desk), meet_store, handlers, log_format)


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


@audit_app.command("show")
def audit_show(config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show every decision: what was sealed, received, refused, joined and ended."""
    records = audit.audit_records(load(config).home)
    if as_json:
        print_json(records)
    else:
        console.print(audit.audit_table(records))


@audit_app.command("verify")
def audit_verify(config: ConfigOption = _DEFAULT) -> None:
    """Check, offline, that nobody rewrote the audit log."""
    count, head = audit.verify_audit(load(config).home)
    say(f"{count} records, none changed, dropped or moved. Head:\n  {head}")


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

    return assemble(
        config=config,
        root=load_root(config),
        identity=load_identity(config),
        store=open_store(config.store),
        bus=open_bus(config),
        guard=lambda _run, _message, _to: "",  # what reaches the coordinator has passed the silos' policies
        load=lambda name: protocols.half(name, "coordinator"),
        context=context,
    )
