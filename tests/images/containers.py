"""Containers of both images, run as a careful operator runs them, and a federation of such containers.

`images()` builds them by the repository's own script, which takes what it has built before from the engine's cache.
Everybody shares one folder, mounted at `/var/lib/silokit`: store and bus lie there beside each party's own folder.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

import protocols
from deploy.images import HERE, PROGRAMS, EngineError, call, engine, version
from tests.programs.federation import HUB, fingerprint, until

BASE = "docker.io/library/python:3.11-slim-bookworm"
HOME = "/var/lib/silokit"
HARDENED = (
    "--no-healthcheck", "--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=all",
    "--security-opt=no-new-privileges",
)  # fmt: skip


@functools.cache
def images() -> dict[str, str]:
    """Both images' names by program, built from this checkout; where no registry answers, on a base made here."""
    environment = {**os.environ, "ENGINE": engine()}
    if not (known("image", "inspect", BASE) or known("pull", BASE)):
        subprocess.run([HERE / "base.sh"], check=True, env=environment)
    subprocess.run([HERE / "build.sh"], check=True, env=environment)
    return {program: f"silokit/{program}:{version()}" for program in PROGRAMS}


def known(*words: str) -> bool:
    """Whether the engine agrees."""
    try:
        return bool(call(*words))
    except EngineError:
        return False


def inspect(image: str) -> dict[str, Any]:
    """What an engine knows of an image."""
    (facts,) = json.loads(call("image", "inspect", image))
    return dict(facts)


def python(image: str, code: str, *options: str) -> Any:
    """Run a few lines of Python inside an image; returns the JSON that they print."""
    words = ("run", "--rm", *HARDENED, *options, "--entrypoint", "python3", image, "-c", code)
    return json.loads(call(*words))


def patiently(what: str, condition: Callable[[], bool]) -> None:
    """Wait for a condition that costs an engine's answer each time."""
    until(what, condition, seconds=600, pause=0.5)


class Containers:
    """A federation whose parties are containers.

    Args:
        silos: the silos' names.
        protocol: what their policies allow.
    """

    def __init__(self, silos: tuple[str, ...], protocol: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="silokit-"))
        self.folder.chmod(0o777)  # the containers' user is a stranger here
        self._silos = silos
        self._protocol = protocol
        self._prefix = f"silokit-{uuid4().hex[:8]}"
        self._started: set[str] = set()

    def found(self) -> None:
        """Found the federation and admit every silo, by the images' own commands."""
        wire = ("--federation", "f", "--store", f"{HOME}/store", "--bus", f"{HOME}/bus.sqlite")
        root = fingerprint(self.once(HUB, "init", f"{HOME}/{HUB}", *wire))
        for silo in self._silos:
            self.once(silo, "init", f"{HOME}/{silo}", "--name", silo, *wire, "--data", f"{HOME}/{silo}.csv")
            request, admission = f"{HOME}/{silo}.request", f"{HOME}/{silo}.admission"
            shown = fingerprint(self.once(silo, "enroll", "--out", request))
            self.once(HUB, "admit", request, "--fingerprint", shown, "--out", admission)
            self.once(silo, "enroll", "--admission", admission, "--fingerprint", root)
            self._allow(silo)

    def _allow(self, silo: str) -> None:
        policy = {
            "protocols": [self._protocol], "unprotected": dict(protocols.sentences(self._protocol)),
            "minimum_rows": 2, "approval": "automatic",
        }  # fmt: skip
        path = self.folder / silo / "policy.yaml"
        path.unlink()
        path.write_text(yaml.safe_dump(policy))

    def once(self, name: str, *words: object) -> str:
        """Run one command of a party in a container of its own; returns what it printed."""
        return call("run", "--rm", *self._options(name), *words)

    def start(self, name: str) -> float:
        """Start a party; returns the seconds until it says that it is ready."""
        began = time.monotonic()
        call("run", "--detach", "--name", self.container(name), *self._options(name))
        self._started.add(name)
        patiently(f"{name} is ready", lambda: bool(self.events(name, "ready")))
        return time.monotonic() - began

    def stop(self, name: str, grace: int = 30) -> tuple[int, float]:
        """Ask a party to end and remove its container; returns its exit code, and the seconds it took."""
        began = time.monotonic()
        call("stop", "--time", grace, self.container(name))
        seconds = time.monotonic() - began
        code = int(call("inspect", "--format", "{{.State.ExitCode}}", self.container(name)))
        call("rm", "--force", self.container(name))
        self._started.discard(name)
        return code, seconds

    def stop_all(self) -> None:
        """Ask everybody who is there to end."""
        for name in list(self._started):
            self.stop(name)

    def within(self, name: str, *words: object) -> str:
        """Run a program inside a party's running container; returns what it printed."""
        return call("exec", self.container(name), *words)

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        """Every line of one kind that a party's container has logged."""
        command = [engine(), "logs", self.container(name)]
        log = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def phase(self, name: str, run: str) -> str:
        """A run's phase at a running party."""
        words = ("coordinator", "show") if name == HUB else ("silo-agent", "status")
        try:
            return str(json.loads(self.within(name, *words, run, "--json"))["phase"])
        except EngineError:  # the offer has not come yet
            return "unknown"

    def submit(self, spec: dict[str, Any]) -> str:
        """Submit a run; returns its identifier."""
        (self.folder / "run.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
        return self.within(HUB, "coordinator", "submit", f"{HOME}/run.yaml").strip()

    def close(self) -> None:
        """End and remove everything."""
        for name in list(self._started):
            call("rm", "--force", self.container(name))
        shutil.rmtree(self.folder, ignore_errors=True)  # what the containers wrote may belong to a stranger

    def container(self, name: str) -> str:
        """What the engine calls a party's container."""
        return f"{self._prefix}-{name}"

    def _options(self, name: str) -> tuple[str, ...]:
        program, variable = ("coordinator", "COORDINATOR") if name == HUB else ("silo-agent", "SILO_AGENT")
        config = f"{variable}_CONFIG={HOME}/{name}/{program}.yaml"
        return (*HARDENED, "--volume", f"{self.folder}:{HOME}", "--env", config, images()[program])
