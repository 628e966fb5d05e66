"""A small HTTP server that says how a party is: `/healthz`, `/readyz`, and `/metrics` for Prometheus.

It never asks a server, takes no orders and tells no secret; it listens where the configuration says, and nowhere
without it. It stands before there is a party, so that whoever waits for an admission is alive and says why it waits.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Protocol

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict, Field

from services.alive import HOST, PORT
from services.errors import ConfigError
from services.metrics import READY

_PATIENCE = 5.0  # seconds for a client to say what it wants
_log = structlog.get_logger()


class MonitoringConfig(BaseModel):
    """Where health and metrics are served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default=HOST, description="the address to listen on; 0.0.0.0 is every one of the machine")
    port: int = Field(default=PORT, ge=1, le=65535, description="the port")


class Shown(Protocol):
    """What can be asked of a party, at any time and by any thread."""

    def dead(self) -> str:
        """Why it should be started again; nothing while it lives."""

    def lacks(self) -> Mapping[str, str]:
        """What keeps it from being ready, with reasons; nothing when it is."""

    def metrics(self) -> bytes:
        """Its metrics in Prometheus's text format."""


class Waiting(Collector):
    """A program that waits until it can be a party: alive, and not ready.

    Args:
        reason: what it waits for, in plain words.
        part: one of `services.metrics.PARTS`.
    """

    def __init__(self, reason: str, part: str = "enrolment") -> None:
        self._lacks = {part: reason}

    def dead(self) -> str:
        """See `Shown.dead`: it lives."""
        return ""

    def lacks(self) -> Mapping[str, str]:
        """See `Shown.lacks`."""
        return self._lacks

    def metrics(self) -> bytes:
        """See `Shown.metrics`: that it is not ready, so that somebody can be told."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield READY.family({(part,): 0.0 for part in self._lacks})


class Monitor:
    """The server; it shows one party, which may change.

    Args:
        config: where to listen; nowhere if there is none.

    Raises:
        ConfigError: the address cannot be had.
    """

    def __init__(self, config: MonitoringConfig | None) -> None:
        self.shown: Shown = Waiting("the program has only just begun")
        self._server: ThreadingHTTPServer | None = None
        if config is not None:
            try:
                self._server = _Server(config.host, config.port, _handler(self))
            except OSError as error:
                raise ConfigError(
                    f"health and metrics cannot be served at {config.host}:{config.port}: {error.strerror}",
                    fix="choose another `monitoring.port`, or end the program that holds it",
                ) from error
            threading.Thread(target=self._server.serve_forever, args=(0.5,), name="monitor", daemon=True).start()

    def show(self, shown: Shown) -> None:
        """Show this from now on."""
        self.shown = shown

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """The answer to a request: status, content type, body."""
        if path == "/healthz":
            dead = self.shown.dead()
            return (503 if dead else 200), "text/plain; charset=utf-8", f"{dead or 'alive'}\n".encode()
        if path == "/readyz":
            lacks = self.shown.lacks()
            said = json.dumps({"ready": not lacks, "reasons": dict(lacks)}, ensure_ascii=False)
            return (503 if lacks else 200), "application/json", f"{said}\n".encode()
        if path == "/metrics":
            return 200, CONTENT_TYPE_PLAIN_0_0_4, self.shown.metrics()
        return 404, "text/plain; charset=utf-8", b"there are /healthz, /readyz and /metrics\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Listen, without asking a name server what this machine is called: an isolated one would wait for it."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


def _handler(monitor: Monitor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE
        server_version, sys_version = "silokit", ""

        def do_GET(self) -> None:
            try:
                status, kind, body = monitor.answer(self.path.partition("?")[0])
            except Exception as error:  # noqa: BLE001 - whoever asks must not end the party, and is told
                _log.error("monitoring failed", path=self.path[:100], error=type(error).__name__, detail=str(error))
                status, kind, body = 500, "text/plain; charset=utf-8", b"this cannot be told now: see the log\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
            """Who looks often must not fill the log."""

    return Handler


@contextmanager
def monitored(config: MonitoringConfig | None) -> Iterator[Monitor]:
    """A monitor for as long as a program runs."""
    monitor = Monitor(config)
    try:
        yield monitor
    finally:
        monitor.close()
