"""The programs' container images, as scripts and tests speak of them. `build.sh` makes them, without any of this."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from services.errors import SilokitError

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PROGRAMS = ("silo-agent", "coordinator")


class EngineError(SilokitError):
    """The container engine is missing, or refuses."""


@functools.cache
def engine() -> str:
    """The container engine that `build.sh` would use.

    Raises:
        EngineError: there is none that runs containers.
    """
    done = subprocess.run(
        ["sh", "-c", ". ./engine.sh && echo $ENGINE"], cwd=HERE, capture_output=True, text=True, check=False
    )
    found = done.stdout.strip()
    if found not in {"docker", "podman"}:
        raise EngineError(
            done.stderr.strip() or f"{found} builds images and runs none", fix="install podman, or set ENGINE"
        )
    return found


def call(*words: object, given: str = "", seconds: float = 1200) -> str:
    """Run the engine; returns what it printed.

    Raises:
        EngineError: it failed, in its own words.
    """
    command = [engine(), *map(str, words)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise EngineError(f"{' '.join(command)} fails: {done.stderr.strip()}\n{done.stdout.strip()}")
    return done.stdout


def version() -> str:
    """The kit's version, which is the images' tag."""
    lines = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))
