"""Where a demo plays: a federation's parties, and public command lines as people would type them.

Here it is a folder with processes of this machine; `deploy.compose` plays the same in containers.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from deploy.demo.watch import Service
from services.errors import SilokitError

BIN = Path(sys.executable).parent
CACHE = Path(".cache")
COORDINATOR = "coordinator"
console = Console()


class Stage(ABC):
    """A federation whose parties can be told what people would tell them.

    Args:
        root: a folder on this machine for what the demo makes.
        spec: the run specification in it.
    """

    def __init__(self, root: Path, spec: Path) -> None:
        self.root = root
        self.spec = spec

    @abstractmethod
    def start(self, name: str) -> Service:
        """Start a party's service; its log is what its operators would watch."""

    @abstractmethod
    def results(self, silo: str, run: str) -> Path:
        """The folder, on this machine, with the results of a silo's run as they are now."""

    @abstractmethod
    def told(self, path: Path) -> str:
        """A path in `root` as a party's own commands know it."""

    def command(
        self, *words: object, config: str = "", quiet: bool = False, live: bool = False, given: str | None = None
    ) -> str:
        """Run a public command line as people would, and show it.

        Args:
            words: the program and what it is told.
            config: the party whose command it is; none for what belongs to no party.
            quiet: show nothing.
            live: let it write to the terminal itself.
            given: its standard input.

        Returns:
            What it wrote to standard output.

        Raises:
            SilokitError: it did not end well.
        """
        shown, run = self._line([str(word) for word in words], config)
        if not quiet:
            console.print(f"[bold cyan]$[/] {shlex.join(shown)}", highlight=False, soft_wrap=True)
        out = None if live else subprocess.PIPE
        done = subprocess.run(run, input=given, stdout=out, text=True, check=False)
        if not quiet and not live:
            console.print(done.stdout.rstrip(), highlight=False, markup=False, style="dim")
        if done.returncode:
            raise SilokitError(f"`{' '.join(shown)}` ended with exit code {done.returncode}", fix="see its error above")
        return done.stdout or ""

    @abstractmethod
    def _line(self, words: list[str], party: str) -> tuple[list[str], list[str]]:
        """A command line as people type it, and as it is run."""


class FolderStage(Stage):
    """A federation in a folder of this machine, its parties as processes.

    Args:
        root: made anew; a folder per party.
        federation: what they are together.
    """

    def __init__(self, root: Path, federation: str) -> None:
        super().__init__(root, root / "run.yaml")
        self._federation = federation
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()

    def found(self, store: object, bus: object) -> None:
        """Found the federation; silos that join are told the same store and bus."""
        self._place = ("--federation", self._federation, "--store", store, "--bus", bus)
        self._fingerprint = fingerprint_in(self.command("coordinator", "init", self.root / COORDINATOR, *self._place))

    def request(self, silo: str, table: Path, policy: Path, *, quiet: bool = False) -> str:
        """Set a silo up and let it ask for admission; returns the fingerprint of its keys."""
        self.command("silo-agent", "init", self.root / silo, "--name", silo, *self._place, "--data", table, quiet=True)
        shutil.copy(policy, self.root / silo / "policy.yaml")
        asked = self.command("silo-agent", "enroll", "--out", self._paper("enrolment", silo), config=silo, quiet=quiet)
        return fingerprint_in(asked)

    def admit(self, silo: str, fingerprint: str, *, quiet: bool = False) -> None:
        """Let the consortium admit a silo."""
        papers = (self._paper("enrolment", silo), "--fingerprint", fingerprint, "--out", self._paper("admission", silo))
        self.command("coordinator", "admit", *papers, config=COORDINATOR, quiet=quiet)

    def enrol(self, silo: str, *, quiet: bool = False) -> None:
        """Let an admitted silo pin the federation's root."""
        papers = ("--admission", self._paper("admission", silo), "--fingerprint", self._fingerprint)
        self.command("silo-agent", "enroll", *papers, config=silo, quiet=quiet)

    def start(self, name: str) -> Service:
        """See `Stage.start`."""
        program = "coordinator" if name == COORDINATOR else "silo-agent"
        arguments = [str(BIN / program), "serve", *self._config(name), "--log-format", "json"]
        return Service.start(arguments, self.root / f"{name}.log")

    def results(self, silo: str, run: str) -> Path:
        """See `Stage.results`."""
        return self.root / silo / "outputs" / run

    def told(self, path: Path) -> str:
        """See `Stage.told`."""
        return str(path)

    def _line(self, words: list[str], party: str) -> tuple[list[str], list[str]]:
        line = [*words, *self._config(party)]
        return line, installed(line)

    def _config(self, name: str) -> list[str]:
        if not name:
            return []
        return ["--config", str(self.root / name / f"{COORDINATOR if name == COORDINATOR else 'silo-agent'}.yaml")]

    def _paper(self, what: str, silo: str) -> Path:
        return self.root / f"{what}-{silo}.json"


def installed(line: list[str]) -> list[str]:
    """A command line of the kit with its program from this very environment."""
    return [str(BIN / line[0]), *line[1:]]


def fingerprint_in(text: str) -> str:
    """The fingerprint that a command printed: in the field, a voice on the telephone."""
    found = re.findall(r"\b(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}\b", text)
    if not found:
        raise SilokitError("a command printed no fingerprint")
    return str(found[-1])


def heading(text: str) -> None:
    """A line between two parts of the story."""
    console.print()
    console.print(Rule(f"[bold]{text}[/]", align="left"))
