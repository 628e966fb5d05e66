"""The containers of deploy/compose.yaml: Docker Compose, told what people would type."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from services.errors import SilokitError

HERE = Path(__file__).parent
FILE = HERE.parent / "compose.yaml"
STORES: dict[str, tuple[Path, ...]] = {"seaweedfs": (), "minio": (HERE / "minio.yaml",)}
"""What the variable STORE may say, and the files that then change deploy/compose.yaml."""


class Compose:
    """`docker compose`, or what the variable COMPOSE names in its place, on the kit's file.

    Raises:
        SilokitError: it is not installed, or the variable STORE names no store that the kit knows.
    """

    def __init__(self) -> None:
        store = os.environ.get("STORE") or "seaweedfs"
        if store not in STORES:
            raise SilokitError(f"there is no store {store!r}", fix=f"set STORE to one of {', '.join(STORES)}")
        program = shlex.split(os.environ.get("COMPOSE") or "docker compose")
        if shutil.which(program[0]) is None:
            raise SilokitError(
                f"there is no `{program[0]}` on this machine",
                fix="install Docker with Compose 2.24.4 or newer, or name another Compose in the variable COMPOSE",
            )
        files = (os.path.relpath(path) for path in (FILE, *STORES[store]))
        self._start = [*program, *(word for file in files for word in ("-f", file))]

    def line(self, *words: str) -> list[str]:
        """A command line of Compose."""
        return [*self._start, *words]

    def run(self, *words: str, given: bytes = b"") -> tuple[bytes, str]:
        """Run it with `given` as standard input; returns what it wrote to standard output, and what it said beside.

        Raises:
            SilokitError: it did not end well; the message says why.
        """
        line = self.line("--progress", "quiet", *words)
        done = subprocess.run(line, input=given, capture_output=True, check=False)
        said = done.stderr.decode(errors="replace")
        if done.returncode:
            last = "\n".join((said or done.stdout.decode(errors="replace")).strip().splitlines()[-15:])
            raise SilokitError(f"`{shlex.join(line)}` ended with exit code {done.returncode}:\n{last}")
        return done.stdout, said

    def show(self, *words: str) -> None:
        """Run it with its own progress on the terminal.

        Raises:
            SilokitError: it did not end well.
        """
        line = self.line(*words)
        if code := subprocess.run(line, check=False).returncode:
            raise SilokitError(f"`{shlex.join(line)}` ended with exit code {code}", fix="see its error above")
