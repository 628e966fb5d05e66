"""The demo's stage in containers: the same public command lines, typed into the running kit."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.compose.project import Compose
from deploy.demo.stage import Stage, installed
from deploy.demo.watch import Service

OUTPUTS = "/var/lib/silokit/outputs"


class ComposeStage(Stage):
    """The parties of a kit that runs.

    Args:
        compose: their containers.
        kit: what they were given; the demo's own files go there too.
    """

    def __init__(self, compose: Compose, kit: Path) -> None:
        super().__init__(kit, kit / "runs" / "support2.yaml")
        self._compose = compose

    def start(self, name: str) -> Service:
        """Follow the log of a party that serves already."""
        log = self.root / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        return Service.start(self._compose.line("logs", "--follow", "--no-log-prefix", "--no-color", name), log)

    def results(self, silo: str, run: str) -> Path:
        """See `Stage.results`; copied out of the silo's volume."""
        folder = self.root / "results" / silo
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / run, ignore_errors=True)
        self._compose.run("cp", f"{silo}:{OUTPUTS}/{run}", str(folder))
        return folder / run

    def told(self, path: Path) -> str:
        """See `Stage.told`."""
        kind, *rest = path.relative_to(self.root).parts
        return "/".join(("/runs", *rest) if kind == "runs" else (OUTPUTS, *rest[1:]))

    def _line(self, words: list[str], party: str) -> tuple[list[str], list[str]]:
        if not party:
            return words, installed(words)
        line = self._compose.line("exec", "-T", party, *words)
        return line, line
