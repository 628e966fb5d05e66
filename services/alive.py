"""The question of a container's health check: does the program that runs here live?

An engine asks it twice a minute for as long as the container lives. So `alive` with nothing else on the command line is
answered by this module alone, before the program is loaded; with options, the ordinary command answers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import yaml

from services.errors import NotRunning

HOST, PORT = "127.0.0.1", 9464
_PATIENCE = 5.0  # seconds
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere listens here


def from_here(host: str) -> str:
    """The address at which this machine reaches whoever listens at `host`, as an URL spells it."""
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]" if ":" in host else host


def ask_alive(host: str, port: int) -> str:
    """Ask the program that serves its health there whether it lives; returns what it says.

    Raises:
        NotRunning: it does not answer, or does not live.
    """
    host = from_here(host)
    connection = HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.read(1000).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        raise NotRunning(f"nobody answers at {host}:{port}", fix="start the service with `serve`") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise NotRunning(f"the program does not live: {said}", fix="start it again, and look at its log")
    return said


def tell_alive(monitoring: Mapping[str, Any] | None) -> int:
    """Print whether the program lives; returns the exit status that container engines expect, 0 or 1.

    Args:
        monitoring: the configuration's part of that name.
    """
    if monitoring is None:
        sys.stdout.write("the configuration has no `monitoring`, and nobody can be asked: add it, and start again\n")
        return 1
    try:
        said, status = ask_alive(monitoring.get("host", HOST), monitoring.get("port", PORT)), 0
    except NotRunning as error:
        said, status = f"{error.what}: {error.fix}", 1
    sys.stdout.write(f"{said}\n")
    return status


def answer_quickly(words: list[str], config: Path) -> None:
    """End the process with the answer if nothing else was asked; return if there is more to it.

    Args:
        words: the command line after the program's name.
        config: the configuration file that an ordinary command would take.
    """
    if words == ["alive"]:
        try:
            monitoring = yaml.safe_load(config.read_text(encoding="utf-8"))["monitoring"]
            status = tell_alive({"host": str(monitoring.get("host", HOST)), "port": int(monitoring.get("port", PORT))})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            return  # the ordinary command says what is wrong with the file
        sys.exit(status)
