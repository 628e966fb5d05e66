"""The commands `backup` and `restore`, the same for both programs."""
# no `from __future__ import annotations`: typer reads an annotation that is made here

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from services.backup import backup
from services.command import say
from services.documents import STREAM
from services.home import holds_party
from services.restore import restore
from services.wiring import PartyConfig

_WARNING = "It holds private keys: whoever reads it can act as this party. Keep it encrypted, away from this machine."


def backup_commands(
    config_option: Any, default: Path, load: Callable[[Path], PartyConfig], program: str
) -> typer.Typer:
    """The commands of a program.

    Args:
        config_option: the annotated type of the program's `--config`.
        default: its default.
        load: reads a configuration file.
        program: the program's name.
    """
    app = typer.Typer()

    @app.command("backup")
    def backup_command(
        out: Annotated[Path, typer.Option(help="A new file, of mode 0600; - is standard output.")],
        outputs: Annotated[bool, typer.Option("--outputs", help="Take the results of runs with it.")] = False,
        config: config_option = default,
    ) -> None:
        """Save keys, trust and state in one archive, also while the service runs."""
        manifest = backup(load(config), program, out, outputs=outputs)
        where = "standard output" if out == STREAM else f"[bold]{out}[/]"
        say(f"{len(manifest.files)} files of {manifest.name} are saved to {where}.", beside=out)
        say(_WARNING, beside=out)

    @app.command("restore")
    def restore_command(
        file: Annotated[Path, typer.Argument(help="A backup of this party.")],
        if_empty: Annotated[
            bool, typer.Option("--if-empty", help="Do nothing, and say nothing, where the home holds a party already.")
        ] = False,
        config: config_option = default,
    ) -> None:
        """Bring a backup back into an empty home; the service then finds out whether the copy is too old."""
        settings = load(config)
        if if_empty and holds_party(settings.home):
            return
        manifest = restore(settings, program, file)
        say(f"{manifest.name} is as it was at {manifest.created:%Y-%m-%d %H:%M} UTC; runs under way then have ended.")
        say(
            "Make sure that no other copy of this party runs, and start the service: it refuses a copy that is too old."
        )

    return app
