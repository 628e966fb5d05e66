"""The command `support-bundle`, the same for both programs."""
# no `from __future__ import annotations`: typer reads an annotation that is made here

from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.command import console, say
from services.errors import SilokitError
from services.support import collect, write
from services.wiring import PartyConfig

_WIDTH = 160  # of what `check` prints


def support_command(
    config_option: Any,
    default: Path,
    program: str,
    load: Callable[[Path], Any],
    *,
    more: Callable[[Any], Mapping[str, Callable[[], Any]]],
    check: Callable[[Console, Path], object],
) -> typer.Typer:
    """The command of a program.

    Args:
        config_option: the annotated type of the program's `--config`.
        default: its default.
        program: the program's name.
        load: reads a configuration file.
        more: further settings of a configuration, as `collect` takes them.
        check: prints the program's checks.
    """
    app = typer.Typer()

    @app.command("support-bundle")
    def support_bundle(
        out: Annotated[Path, typer.Option(help="A new zip archive.")],
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        config: config_option = default,
    ) -> None:
        """Gather what helps others to help, without secrets or rows; shows it first, and asks."""
        parts = collect(
            found := _read(load, config), program,
            more=more(found) if found is not None else {}, check=lambda: _printed(lambda to: check(to, config)),
        )  # fmt: skip
        table = Table(box=None, header_style="bold")
        for heading in ("file", "bytes", "what"):
            table.add_column(heading, overflow="fold", justify="right" if heading == "bytes" else "left")
        for part in parts:
            table.add_row(part.name, f"{len(part.content):,}", part.what)
        console.print(table)
        say("No keys, credentials, tables, results or artifacts. Names of parties, runs and machines are in it.")
        if not yes:
            while (
                name := typer.prompt("A file to look at, or nothing to go on", default="", show_default=False)
            ) != "":
                shown = [part.content.decode() for part in parts if part.name == name]
                console.print("".join(shown) or "there is no such file", markup=False, highlight=False, soft_wrap=True)
            typer.confirm(f"Write {out}?", abort=True)
        write(out, parts)
        say(f"Written to [bold]{out}[/]: read it once more before you send it to anybody.")

    return app


def _read(load: Callable[[Path], PartyConfig], path: Path) -> PartyConfig | None:
    try:
        return load(path)
    except SilokitError:  # `check` says what is wrong with it
        return None


def _printed(show: Callable[[Console], object]) -> str:
    text = StringIO()
    show(Console(file=text, width=_WIDTH))
    return text.getvalue()
