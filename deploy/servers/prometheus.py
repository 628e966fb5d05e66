"""A real Prometheus in a folder of its own, on this machine alone, and a way to ask it."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode

import yaml

from deploy.servers import ServerError, ServerMissing
from deploy.servers.ports import free_ports
from deploy.servers.process import Server

_PATIENCE = 30.0  # seconds


class PrometheusServer(Server):
    """A Prometheus.

    Args:
        folder: the server's own.
        config: what it is told, as its configuration file says it.
    """

    title = "Prometheus"
    boot_seconds = 60.0
    stop_seconds = 10.0

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__(folder)
        (self._port,) = free_ports(1)
        self._config = config

    def ask(self, what: str, **about: Any) -> Any:
        """What its HTTP API answers, for example to `ask("query_range", query="up", ...)`.

        Raises:
            ServerError: it refuses the question.
        """
        try:
            with urllib.request.urlopen(f"{self._address}/api/v1/{what}?{urlencode(about)}", timeout=_PATIENCE) as said:  # noqa: S310 - http, this machine
                return json.load(said)["data"]
        except URLError as error:
            told = error.read().decode(errors="replace") if hasattr(error, "read") else str(error.reason)
            raise ServerError(f"Prometheus does not answer {about}: {told}") from error

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @classmethod
    def require(cls) -> None:
        """See `Server.require`."""
        if shutil.which("prometheus") is None or shutil.which("promtool") is None:
            raise ServerMissing("there is no Prometheus here", fix="`make servers` (Debian, as root) installs it")

    def _prepare(self) -> Sequence[str]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(self._config))
        return (
            "prometheus", f"--config.file={path}", f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn",
        )  # fmt: skip

    def _surroundings(self) -> dict[str, Any]:
        return {"env": {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "GOMAXPROCS": "1"}, "cwd": self.folder}

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=1):  # noqa: S310 - http, this machine
                return True
        except OSError:
            return False

    def _ended(self) -> None:
        """It is one process."""
