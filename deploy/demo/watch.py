"""Watches the parties' logs and draws a progress bar for each of them, as an operator's screen would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.errors import RunFailed

STEPS = {  # what people call the steps of a silo and of the coordinator
    "secret": "makes the secret", "pseudonyms": "hides identifiers", "latents": "fits its autoencoder",
    "decode": "decodes in private", "report": "measures its columns",
    "diffusion": "trains the diffusion", "sampling": "samples",
    "generator": "fits its generator", "sample": "samples its generator",
}  # fmt: skip


@dataclass
class Service:
    """A party's process and its log."""

    process: subprocess.Popen[bytes]
    log: Path
    _read: int = 0
    _rest: bytes = field(default=b"")

    @classmethod
    def start(cls, arguments: list[str], log: Path) -> Self:
        """Start a service that writes JSON lines to `log`; two threads of two cores would fight over them."""
        with log.open("wb") as out:
            process = subprocess.Popen(arguments, stdout=out, stderr=out, start_new_session=True)
        return cls(process, log)

    def events(self) -> list[dict[str, Any]]:
        """What the log says since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            data = self._rest + log.read()
            self._read = log.tell()
        *lines, self._rest = data.split(b"\n")
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def stop(self) -> None:
        """End the service as an operator would: SIGTERM, and patience."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)


def wait_until_ready(services: dict[str, Service]) -> None:
    """Wait until every service has said in its log that it is ready.

    Raises:
        RunFailed: one of them ended, or is not ready within a minute.
    """
    deadline = time.monotonic() + 60
    for name, service in services.items():
        while not any(event["event"] == "ready" for event in service.events()):
            if service.process.poll() is not None or time.monotonic() > deadline:
                raise RunFailed(f"the service of {name} did not become ready", fix=f"see {service.log}")
            time.sleep(0.05)


def watch(console: Console, services: dict[str, Service], run: str) -> None:
    """Draw everybody's progress until the run has ended everywhere.

    Raises:
        RunFailed: the run failed, or a service ended.
    """
    ended: set[str] = set()
    with Progress(
        TextColumn("  {task.fields[party]:12}"), TextColumn("{task.description:24}"), BarColumn(36),
        TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[note]:14}"), TimeElapsedColumn(),
        console=console,
    ) as bars:  # fmt: skip
        tasks = {name: bars.add_task("ready, waits for a run", total=None, party=name, note="") for name in services}
        while len(ended) < len(services):
            for name, service in services.items():
                for event in service.events():
                    if name not in ended and event.get("run") == run and _show(bars, tasks[name], event):
                        ended.add(name)
                if name not in ended and service.process.poll() is not None:
                    raise RunFailed(f"the service of {name} ended", fix=f"see {service.log}")
            time.sleep(0.1)


def _show(bars: Progress, task: TaskID, event: dict[str, Any]) -> bool:
    """Show one event; returns whether the run has ended at this party."""
    what = event["event"]
    if what == "joined" and "silo" not in event:
        bars.update(task, description="joined under its policy")
    elif what == "work":
        bars.update(task, description=STEPS.get(event["step"], event["step"]), completed=0, total=None, note="")
    elif what == "progress":
        note = f"loss {event['loss']:.3f}" if event["loss"] is not None else ""
        bars.update(task, completed=event["done"], total=event["total"], note=note)
    elif what == "sent" and not event["kind"].startswith("run."):
        bars.update(task, description="waits", note=f"{event['bytes'] / 1e6:.2f} MB sent")
    elif what == "quarantined":
        bars.update(task, note="[red]quarantined[/]")
    elif what == "run ended":
        bars.update(task, description=event["phase"], completed=1, total=1, note="")
        if event["phase"] != "done":
            raise RunFailed(f"the run {event['phase']}: {event['detail']}")
        return True
    return False
