"""What checks found, a row each, for people: every failure with its fix and whose task that is."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.errors import SilokitError


class Caution(SilokitError):
    """It works, and may not for long, or not well: a warning, not a failure."""


class Report:
    """A table that grows by a row per check.

    Args:
        console: where it will be shown; says meanwhile what is looked at.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._table = Table(box=None, header_style="bold")
        self._table.add_column("")
        self._table.add_column("check", no_wrap=True)
        self._table.add_column("found", overflow="fold")
        self.passed = True

    def look(self, name: str, test: Callable[[], str], *, after: bool = True) -> bool:
        """Make one check; returns whether what builds on it can be looked at.

        Args:
            name: what is looked at.
            test: says what it found, or raises what is wrong.
            after: whether what it needs was there; else it is not made.
        """
        if not after:
            self._table.add_row("-", name, Text("not looked at: it needs what failed above", style="dim"))
            return False
        try:
            with self._console.status(name):
                found = test()
        except Caution as error:
            self._table.add_row(Text("warn", style="yellow"), name, _said(error))
        except SilokitError as error:
            self.passed = False
            self._table.add_row(Text("no", style="red"), name, _said(error))
            return False
        else:
            self._table.add_row(Text("ok", style="green"), name, Text(found))
        return True

    def show(self) -> None:
        """Print what was found."""
        self._console.print(self._table)


def _said(error: SilokitError) -> Text:
    lines = [Text(error.what)]
    for label, words in (("fix: ", error.fix), ("who: ", error.who)):
        if words:
            lines.append(Text(label, style="bold").append(words, style="not bold"))
    return Text("\n").join(lines)
