"""The coordinator's commands that change who is trusted; each is a draft that keyholders sign."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator import roster
from coordinator.roster import Outcome
from coordinator.settings import CONFIG_FILE, ConfigOption, load
from coordinator.trust import keyholders
from coordinator.trust.draft import Draft
from coordinator.trust.metadata import holders_of
from services.command import JsonOption, check_names, console, print_json, say
from services.documents import STREAM, check_told
from services.errors import ConfigError
from services.keys import load_signing
from services.trust import Roster

app = typer.Typer()
_DEFAULT = Path(CONFIG_FILE)


def tell(outcome: Outcome, *, beside: Path | None = None) -> None:
    """Say what became of a change, and what is left to do; `beside` is as in `say`."""
    line = partial(say, beside=beside)
    if outcome.draft is not None:
        line(f"{outcome.lacks} keyholders must sign [bold]{outcome.draft}[/] with `coordinator sign`: in turn, or on")
        line("copies. Then run `coordinator publish` with it, or with all copies. Until then nothing changes.")
        return
    line(f"Version {outcome.version} of the trust is signed" + (" and published." if outcome.shown else "."))
    if not outcome.shown:
        line("The store does not answer yet: the running coordinator brings it there.")


@app.command()
def admit(
    request: Annotated[Path, typer.Argument(help="The silo's enrolment request; - is standard input.")],
    fingerprint: Annotated[str | None, typer.Option(help="The fingerprint that the silo read to you.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the admission; - is standard output.")] = None,
    config: ConfigOption = _DEFAULT,
) -> None:
    """Admit a silo, or a member's new keys, after comparing fingerprints."""
    settings = load(config)
    check_told(request, fingerprint)
    enrolment, former = roster.read_enrolment(settings, request)
    identity = enrolment.identity
    shown = identity.fingerprint()
    line = partial(say, beside=out)
    line(f"[bold]{identity.name}[/] shows the fingerprint\n  [bold]{shown}[/]")
    if fingerprint is None:
        typer.confirm("Did the silo read you exactly this, by telephone?", abort=True, err=out == STREAM)
    elif fingerprint.replace(" ", "").upper() != shown.replace(" ", ""):
        raise ConfigError(
            f"{identity.name}'s request has another fingerprint than the one you gave",
            fix="ask the silo to read its fingerprint again; somebody may have swapped the request",
            kept="the roster stays as it is",
        )
    target = out or request.with_name(f"admission-{identity.name}.json")
    outcome = roster.admit(settings, enrolment, former, target)
    if outcome is None:
        line(f"{identity.name} is a member with these keys already; its certificate is new.")
    else:
        tell(outcome, beside=out)
    line(
        "Send what stands on standard output to the silo." if out == STREAM else f"Send [bold]{target}[/] to the silo."
    )
    line(f"Root fingerprint, to read to the silo:\n  [bold]{roster.fingerprint(settings)}[/]")


@app.command()
def retire(
    name: Annotated[str, typer.Argument(help="The member to take off the roster.")], config: ConfigOption = _DEFAULT
) -> None:
    """Take a member off the roster: nothing that it says is accepted any more; then provision the servers anew."""
    tell(roster.retire(load(config), name))
    say("Now run `coordinator provision` and bring its files to broker and store.")


@app.command()
def renew(config: ConfigOption = _DEFAULT) -> None:
    """Have the roster signed anew before it expires."""
    tell(roster.renew(load(config)))


@app.command()
def rotate(config: ConfigOption = _DEFAULT) -> None:
    """Change the coordinator's own keys; those that it gives up are taken for a grace."""
    tell(roster.change_keys(load(config)))


@app.command()
def keyholder(
    name: Annotated[str, typer.Argument(help="The keyholder's name.")],
    folder: Annotated[Path, typer.Option(help="Where to write NAME.key, which is secret, and NAME.pub.")] = Path(),
) -> None:
    """Make a keyholder's key, on the keyholder's own machine."""
    check_names(name)
    keyholders.make(name, folder)
    say(f"Keep [bold]{folder / name}.key[/] on a medium that lies in a drawer.")
    say(f"Give [bold]{folder / name}.pub[/] to the coordinator.")


@app.command("keyholders")
def keyholders_command(
    holder: Annotated[list[Path], typer.Argument(help="The public files (NAME.pub) of all keyholders from now on.")],
    threshold: Annotated[int, typer.Option(help="How many of them must sign each change.")],
    config: ConfigOption = _DEFAULT,
) -> None:
    """Have others hold the keys from now on; enough of the present keyholders must sign that too."""
    tell(roster.change_keyholders(load(config), keyholders.read(holder), threshold))


@app.command()
def sign(
    draft: Annotated[Path, typer.Argument(help="The draft to sign; it is written back.")],
    key: Annotated[Path, typer.Option(help="The keyholder's private key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Sign a draft as a keyholder: anywhere, without a network, after reading what it says."""
    found = Draft.read(draft)
    say(f"This draft makes version {found.new_targets.signed.version} of the trust.")
    _show(found.read_roster())
    say(f"It holds until {found.new_targets.signed.expires:%Y-%m-%d %H:%M} UTC.")
    if found.root is not None:
        holders = ", ".join(sorted(holders_of(found.authority)))
        threshold = found.authority.roles["root"].threshold
        say(f"It brings a new root, version {found.authority.version}: {threshold} of {holders} sign from then on.")
        say(f"Its fingerprint is\n  [bold]{found.fingerprint}[/]")
    if not yes:
        typer.confirm("Do you sign this?", abort=True)
    found = found.sign(load_signing(key))
    found.write(draft)
    say(f"Signed; {found.lacks()} signatures are lacking." if found.lacks() else "Signed; it can be published.")


@app.command()
def publish(
    draft: Annotated[list[Path], typer.Argument(help="A signed draft, or its signed copies.")],
    config: ConfigOption = _DEFAULT,
) -> None:
    """Publish a draft that enough keyholders have signed."""
    tell(roster.publish(load(config), draft))


@app.command()
def members(config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show who belongs to the federation, with fingerprints, and who signs for that."""
    store = roster.repository(load(config))
    found, targets, root = store.roster, store.targets, store.root.signed
    if as_json:
        print_json({
            **found.model_dump(mode="json"), "version": targets.version, "expires": targets.expires.isoformat(),
            "keyholders": sorted(holders_of(root)), "threshold": root.roles["root"].threshold,
        })  # fmt: skip
        return
    _show(found)
    say(f"Version {targets.version}, until {targets.expires:%Y-%m-%d %H:%M} UTC.")
    say(f"{root.roles['root'].threshold} of {', '.join(sorted(holders_of(root)))} sign each change.")


def _show(found: Roster) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("member", "fingerprint"):
        table.add_column(heading, no_wrap=True)
    for identity in found.members.values():
        table.add_row(identity.name, identity.fingerprint())
    console.print(table)
    for name, keys in found.former.items():
        say(f"What {name} signed with a former key is taken until {max(one.until for one in keys):%Y-%m-%d %H:%M} UTC.")
