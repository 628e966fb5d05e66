"""Where a demo plays: a folder with a federation in it, its parties' processes, and public command lines as shown."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from deploy.demo.watch import Service
from services.errors import SilokitError

BIN = Path(sys.executable).parent
CACHE = Path(".cache")
COORDINATOR = "coordinator"
console = Console()


class Stage:
    """A demo's folder.

    Args:
        root: made anew; a folder per party.
        federation: what they are together.
    """

    def __init__(self, root: Path, federation: str) -> None:
        self.root = root
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
        """Start a party's service; its log is what its operators would watch."""
        program = "coordinator" if name == COORDINATOR else "silo-agent"
        arguments = [str(BIN / program), "serve", *self._config(name), "--log-format", "json"]
        return Service.start(arguments, self.root / f"{name}.log")

    def command(self, *words: object, config: str = "", quiet: bool = False, live: bool = False) -> str:
        """Run a public command line as people would, and show it.

        Raises:
            SilokitError: it did not end well.
        """
        program, *rest = [str(word) for word in words]
        arguments = [program, *rest, *self._config(config)]
        if not quiet:
            console.print(f"[bold cyan]$[/] {shlex.join(arguments)}", highlight=False, soft_wrap=True)
        out = None if live else subprocess.PIPE
        done = subprocess.run([BIN / program, *arguments[1:]], stdout=out, text=True, check=False)
        if not quiet and not live:
            console.print(done.stdout.rstrip(), highlight=False, markup=False, style="dim")
        if done.returncode:
            words_ = " ".join(arguments)
            raise SilokitError(f"`{words_}` ended with exit code {done.returncode}", fix="see its error above")
        return done.stdout or ""

    def _config(self, name: str) -> list[str]:
        if not name:
            return []
        return ["--config", str(self.root / name / f"{COORDINATOR if name == COORDINATOR else 'silo-agent'}.yaml")]

    def _paper(self, what: str, silo: str) -> Path:
        return self.root / f"{what}-{silo}.json"


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
