"""A federation of real processes, set up with the public commands over a folder and an SQLite file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import protocols
from services.board import run_facts
from services.runs import RunBook
from services.state import State
from tests.programs.commands import REPOSITORY, run

protocols.register("echo", "tests.echo")

HUB = "hub"
PROGRAM = {True: "coordinator", False: "silo-agent"}


def until(what: str, condition: Callable[[], bool], seconds: float = 120, pause: float = 0.02) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it does not come.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(pause)


def fingerprint(text: str) -> str:
    """The last fingerprint that a command printed."""
    return str(re.findall(r"\b(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}\b", text)[-1])


@contextmanager
def temporary(silos: tuple[str, ...] = ("east", "west"), protocol: str = "echo") -> Iterator[Federation]:
    """A federation yet to be founded, in a folder of its own that goes with it; short, for sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="silokit-"))
    one = Federation(folder, silos=silos, protocol=protocol)
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(folder)


@dataclass
class Federation:
    """The parties' folders and processes.

    Args:
        folder: where everybody's folder lies; short, for sockets lie in it.
        silos: their names.
        protocol: what their policies allow.
        tables: the silos' tables.
        bus: the broker's address; an SQLite file when there is none.
        store: the bucket's address; a folder when there is none.
    """

    folder: Path
    silos: tuple[str, ...] = ("east", "west")
    protocol: str = "echo"
    tables: dict[str, Path] = field(default_factory=dict)
    bus: str = ""
    store: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def found(self) -> None:
        """Found the federation and admit every silo."""
        bus = self.bus or self.folder / "bus.sqlite"
        self.wire = ("--federation", "f", "--store", self.store or self.folder / "store", "--bus", bus)
        root = fingerprint(run("coordinator", "init", self.folder / HUB, *self.wire).stdout)
        for silo in self.silos:
            data = ("--data", self.tables[silo]) if silo in self.tables else ()
            run("silo-agent", "init", self.folder / silo, "--name", silo, *self.wire, *data)
            self.allow(silo)
            request, admission = self.folder / f"{silo}.request", self.folder / f"{silo}.admission"
            shown = fingerprint(self.command(silo, "enroll", "--out", request).stdout)
            self.command(HUB, "admit", request, "--fingerprint", shown, "--out", admission)
            self.command(silo, "enroll", "--admission", admission, "--fingerprint", root)

    def allow(self, silo: str, **changes: Any) -> None:
        """Write the silo's policy."""
        policy = {
            "protocols": [self.protocol],
            "unprotected": dict(protocols.sentences(self.protocol)),
            "minimum_rows": 2,
        }
        text = yaml.safe_dump({**policy, "approval": "automatic", **changes})
        (self.folder / silo / "policy.yaml").write_text(text)

    def config(self, name: str) -> Path:
        """A party's configuration file."""
        return self.folder / name / ("coordinator.yaml" if name == HUB else "silo-agent.yaml")

    def command(
        self, name: str, *words: object, check: bool = True, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of a party's commands, with `given` on its standard input."""
        return run(PROGRAM[name == HUB], *words, "--config", self.config(name), check=check, given=given)

    def log(self, name: str) -> str:
        """Everything that a party has logged."""
        return (self.folder / f"{name}.log").read_text()

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        """Every line of one kind that a party has logged."""
        lines = (json.loads(line) for line in self.log(name).splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == event]

    def start(self, name: str, fault: str = "", *, awaited: str = "ready") -> None:
        """Start a party, armed if so told, and wait until it logs an event."""
        words = [PROGRAM[name == HUB], "serve", "--config", str(self.config(name)), "--log-format", "json"]
        environment = {**os.environ, **({"FAULT": fault} if fault else {})}
        with (self.folder / f"{name}.log").open("ab") as log:
            before = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.programs.launch", *words],
                cwd=REPOSITORY, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.processes[name] = process

        def arrived() -> bool:
            assert process.poll() in {None, -signal.SIGKILL}, self.log(name)
            return f'"event": "{awaited}"' in self.log(name)[before:] or process.poll() is not None

        until(f"{name} is {awaited}", arrived)

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a party's process; returns its exit status."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(120)

    def close(self) -> None:
        """End every process."""
        for name in list(self.processes):
            self.stop(name, signal.SIGKILL)

    def submit(self, spec: dict[str, Any]) -> str:
        """Submit a run; returns its identifier."""
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return self.command(HUB, "submit", path).stdout.strip()

    def facts(self, name: str) -> list[dict[str, Any]]:
        """A party's runs, oldest first."""
        with State(self.folder / name / "state", writer=False) as state:
            return [run_facts(state, one) for one in RunBook(state).all()]

    def phase(self, name: str, run_name: str) -> str:
        """A run's phase at a party."""
        return str(next((one["phase"] for one in self.facts(name) if one["run"] == run_name), "unknown"))
