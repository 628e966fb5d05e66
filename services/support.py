"""A support bundle: what helps others to help this party, with no secret and nothing that derives from rows.

Left out on purpose: keys, credentials, tables, results, artifacts; words of a configuration file that are no setting;
passwords inside addresses; how a run's training went and why a run was refused, which can tell about rows; how many
rows a table has. Every part is shown by name, size and content before anything is written.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path
from typing import Any

from services.alive import from_here
from services.chain import AUDIT, Chain
from services.errors import ConfigError, SilokitError
from services.files import write_atomic
from services.home import RECENT
from services.ledger import Ledger
from services.runs import RunBook
from services.state import SCHEMA_VERSION, State
from services.versions import program_version
from services.wiring import PartyConfig

LINES = 2000
"""Of the log, at most."""
_LEFT_OUT = ("detail", "loss", "bytes", "done", "total")
"""What a line of the log may say of rows, or from which their number can be reckoned."""
_COUNTS = re.compile(r"silokit_(training|progress|artifacts_sent_bytes|transfer_bytes)")
"""Metrics that may do so."""
_MAX_METRICS = 8 << 20
_NAMES = "secret|password|passwd|token|authorization"
_is_secret = re.compile(_NAMES, re.IGNORECASE).search
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), "...@"),  # who, and with which password, in an address
    (re.compile(r"(://[^\s?#]+)\?[^\s#]*"), r"\1?..."),  # what is signed or named behind it
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "..."),
    (re.compile(rf"(?i)((?:{_NAMES})\S*\s*[:=]\s*)\S.*"), r"\1..."),
)


@dataclass(frozen=True)
class Part:
    """One file of a bundle, and what it is, in words."""

    name: str
    what: str
    content: bytes


def clean(text: str) -> str:
    """A text without what looks like a secret: passwords in addresses, signed queries, private keys, tokens."""
    for pattern, put in _SECRETS:
        text = pattern.sub(put, text)
    return text


def cleaned(value: Any) -> Any:
    """A value for JSON without what looks like a secret, by its name or in its text."""
    if isinstance(value, dict):
        return {key: "..." if _is_secret(str(key)) else cleaned(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(one) for one in value]
    return clean(value) if isinstance(value, str) else value


def collect(
    config: PartyConfig | None, program: str, *, more: Mapping[str, Callable[[], Any]], check: Callable[[], str]
) -> list[Part]:
    """The parts of a bundle; one that cannot be had says why, in its place.

    Args:
        config: the party's; None when it cannot be read.
        program: which program it runs.
        more: further settings by the names of their files' stems, as values for JSON.
        check: runs the program's checks; returns what they print.
    """
    parts = [_part("about.json", "program, Python, platform, installed packages", lambda: _json(_about(program)))]
    if config is not None:
        found = config
        parts += [
            _part("configuration.json", "settings, without comments", lambda: _json(found.model_dump(mode="json"))),
            _part("state.json", "runs, outbox, quarantine, ledger: how many, in which state", lambda: _state(found)),
            _part("log.jsonl", f"the service's last lines, {LINES} at most", lambda: _log(found.home)),
            _part("metrics.txt", "what monitoring shows at this moment", lambda: _metrics(found)),
        ]
        parts += [_part(f"{name}.json", "settings", partial(_read_json, read)) for name, read in more.items()]
    return [*parts, _part("check.txt", f"what `{program} check` says", lambda: clean(check()))]


def write(out: Path, parts: list[Part]) -> None:
    """Write a bundle into a new zip archive of mode 0600.

    Raises:
        ConfigError: the file exists.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already", fix="name a new file", kept="that file")
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            archive.writestr(part.name, part.content)
    write_atomic(out, buffer.getvalue())


def _part(name: str, what: str, read: Callable[[], str]) -> Part:
    try:
        text = read()
    except (SilokitError, OSError, HTTPException, sqlite3.Error, ValueError) as error:
        why = error.what if isinstance(error, SilokitError) else f"{type(error).__name__}: {error}"
        text = clean(f"could not be had: {why}\n")
    return Part(name, what, text.encode())


def _json(value: Any) -> str:
    return json.dumps(cleaned(value), indent=2, default=str) + "\n"


def _read_json(read: Callable[[], Any]) -> str:
    return _json(read())


def _about(program: str) -> dict[str, Any]:
    return {
        "program": program, "version": program_version(), "state version": SCHEMA_VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "python": sys.version, "platform": platform.platform(),
        "processors": os.cpu_count(), "user": os.getuid(),
        "packages": sorted({f"{one.name} {one.version}" for one in distributions()}),
    }  # fmt: skip


def _state(config: PartyConfig) -> str:
    with State(config.home, writer=False) as state, state.snapshot():
        return _json({
            "runs": [
                {"run": run.run, "protocol": run.protocol, "phase": run.phase, "created": run.created,
                 "deadline": run.deadline, "ended": run.ended, "awaited": run.awaited()}
                for run in RunBook(state).all()
            ],
            "outbox": _count(state, "SELECT kind AS name, count(*) AS n, count(sent) AS sent FROM outbox GROUP BY 1"),
            "arrivals": _count(state, "SELECT outcome AS name, count(*) AS n FROM arrivals GROUP BY outcome"),
            "inbox": _count(state, "SELECT state AS name, count(*) AS n FROM inbox GROUP BY state"),
            "quarantine": _count(
                state, "SELECT reason AS name, count(*) AS n, sum(alarm) AS alarms, max(at) AS last FROM quarantine"
                " GROUP BY reason ORDER BY n DESC LIMIT 100"
            ),
            "ledger": _count(
                state, "SELECT dataset AS name, count(*) AS reserved, count(digest) AS sealed FROM charges"
                " GROUP BY dataset"
            ),
            "chains": {"audit": _whole(Chain(state, AUDIT).verify), "ledger": _whole(Ledger(state).verify)},
            "bytes": {"state file": state.path.stat().st_size, "free": shutil.disk_usage(config.home).free},
        })  # fmt: skip


def _count(state: State, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in state.rows(query)]


def _whole(verify: Callable[[], int]) -> str:
    try:
        return f"{verify()} records, whole"
    except SilokitError as error:
        return error.what


def _log(home: Path) -> str:
    lines = [line for name in reversed(RECENT) for line in _lines(home / name)]
    if not lines:
        return "no service has kept a log here\n"
    return "".join(f"{line}\n" for line in lines[-LINES:])


def _lines(path: Path) -> Iterator[str]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            facts = json.loads(line)
        except ValueError:
            continue  # a power cut's half a line
        yield json.dumps(cleaned({key: "left out" if key in _LEFT_OUT else value for key, value in facts.items()}))


def _metrics(config: PartyConfig) -> str:
    if config.monitoring is None:
        return "the configuration has no `monitoring`\n"
    address = f"http://{from_here(config.monitoring.host)}:{config.monitoring.port}/metrics"
    with closing(urllib.request.urlopen(address, timeout=5)) as answer:
        text = answer.read(_MAX_METRICS).decode(errors="replace")
    return clean("".join(f"{line}\n" for line in text.splitlines() if not _COUNTS.search(line)))
