"""What both command lines share: errors for people, options, and what they print."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from services import log
from services.artifact import check_name
from services.documents import STREAM
from services.enrolment import STORE_CREDENTIALS, TLS_AUTHORITY, TLS_CERTIFICATE, TLS_KEY
from services.errors import ConfigError, SilokitError
from services.store.s3 import S3Config

console = Console()
_errors = Console(stderr=True)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class LogForm(StrEnum):
    """How a service writes its log."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
LogOption = Annotated[LogForm, typer.Option(help="json, text, or auto: text on a terminal, JSON elsewhere.")]
NetworkOption = Annotated[
    bool, typer.Option("--network", help="Walk the way to store and broker too, a step at a time.")
]
StartOption = Annotated[
    bool, typer.Option("--start", help="Tell everything, but fail only for what keeps the service from starting.")
]
RunArgument = Annotated[str, typer.Argument(help="The run's identifier.")]


def run_cli(app: typer.Typer) -> None:
    """Run a command line; a deliberate error is printed for people and becomes its documented exit code."""
    log.configure("text" if sys.stderr.isatty() else "json", level="warning")
    try:
        app()
    except SilokitError as error:
        _errors.print(f"[bold red]error:[/] {escape(error.what)}", highlight=False, soft_wrap=True)
        if error.kept:
            _errors.print(f"[bold] kept:[/] {escape(error.kept)}", highlight=False, soft_wrap=True)
        if error.fix:
            _errors.print(f"[bold] next:[/] {escape(error.fix)}", highlight=False, soft_wrap=True)
        raise SystemExit(error.exit_code) from None


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet.

    Raises:
        ConfigError: it exists.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists already", fix="edit it, or move it away first", kept="the file") from None


def check_names(*names: str) -> None:
    """Refuse names that cannot be folders, queues and object keys.

    Raises:
        ConfigError: one of them is not a name.
    """
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise ConfigError(f"{name!r} cannot be a name: {error}") from None


def seen_from(folder: Path, path: Path) -> Path:
    """A path as a configuration file in `folder` should write it."""
    return path if path.is_absolute() else Path(os.path.relpath(path, folder))


def bus_section(folder: Path, bus: str) -> str:
    """What a new configuration file says of the bus.

    Args:
        folder: where the configuration file will lie.
        bus: the path of an SQLite file, or `amqps://HOST[:PORT]` for a RabbitMQ broker.

    Raises:
        ConfigError: it is an address of another kind.
    """
    if "://" not in bus:
        return f"  sqlite: {seen_from(folder, Path(bus))}"
    parts = urlsplit(bus)
    if parts.scheme != "amqps" or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
        raise ConfigError(
            f"{bus} is no address of a broker",
            fix="write amqps://HOST or amqps://HOST:PORT: certificates say who you are",
        )
    return f"""\
  rabbitmq:
    host: {parts.hostname}
    port: {parts.port or 5671}
    ca: state/{TLS_AUTHORITY}
    certificate: state/{TLS_CERTIFICATE}
    key: state/{TLS_KEY}"""


def store_section(folder: Path, store: str) -> str:
    """What a new configuration file says of the store.

    Args:
        folder: where the configuration file will lie.
        store: the path of a folder, or `https://HOST[:PORT]/BUCKET` for an S3 store.

    Raises:
        ConfigError: it is an address of another kind, or one that would not be encrypted.
    """
    if "://" not in store:
        return f"  folder: {seen_from(folder, Path(store))}"
    endpoint, _, bucket = store.rstrip("/").rpartition("/")
    try:
        here = urlsplit(endpoint).hostname in _LOOPBACK
        S3Config(endpoint=endpoint, bucket=bucket, credentials=Path(STORE_CREDENTIALS), insecure=here)
    except ValueError:
        raise ConfigError(
            f"{store} is no address of a bucket",
            fix="write https://HOST/BUCKET or https://HOST:PORT/BUCKET; http:// only for a store on this very machine",
        ) from None
    ca = f"ca: state/{TLS_AUTHORITY} # without this line, the authorities that this machine trusts"
    return f"""\
  s3:
    endpoint: {endpoint}
    bucket: {bucket}
    credentials: state/{STORE_CREDENTIALS}
    {ca if endpoint.startswith("https:") else "insecure: true"}"""


def say(text: str, *, beside: Path | None = None) -> None:
    """Print a line for people, without breaking paths and fingerprints.

    Args:
        text: the line.
        beside: a document that is written too; where it goes to standard output, people's words go to standard error.
    """
    (_errors if beside == STREAM else console).print(text, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Print JSON for programs, free of any styling."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
