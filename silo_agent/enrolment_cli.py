"""The silo's commands by which it becomes a member, and changes its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.command import say
from services.documents import STREAM, check_told
from silo_agent import enrolment
from silo_agent.settings import CONFIG_FILE, ConfigOption, SiloConfig, load

app = typer.Typer()
_DEFAULT = Path(CONFIG_FILE)
RequestOption = Annotated[Path | None, typer.Option(help="Where to write the enrolment request; - is standard output.")]


@app.command()
def enroll(
    out: RequestOption = None,
    admission: Annotated[
        Path | None, typer.Option(help="The admission that the consortium sent back; - is standard input.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The root fingerprint that the consortium read to you.")
    ] = None,
    config: ConfigOption = _DEFAULT,
) -> None:
    """Write an enrolment request, with new keys where there are none; with --admission, become a member."""
    settings = load(config)
    if admission is None:
        _ask(settings, out)
        return
    check_told(admission, fingerprint)
    expected = fingerprint or typer.prompt("Root fingerprint, as the consortium reads it to you by telephone")
    say(enrolment.admit(settings, admission, expected))


@app.command()
def rotate(out: RequestOption = None, config: ConfigOption = _DEFAULT) -> None:
    """Draw new keys, and write an enrolment request for them; they hold once the roster names them."""
    _ask(load(config), out, change_keys=True)
    say("The agent goes on with its present keys, and turns to the new ones by itself.", beside=out)


def _ask(settings: SiloConfig, out: Path | None, *, change_keys: bool = False) -> None:
    target = out or Path(f"enrolment-{settings.name}.json")
    shown = enrolment.request(settings, target, change_keys=change_keys)
    what = "what stands on standard output" if out == STREAM else f"[bold]{target}[/]"
    say(f"Send {what} to the consortium, and read it this fingerprint by telephone:", beside=out)
    say(f"  [bold]{shown}[/]", beside=out)
