"""The local socket between a party's commands and its running service: no administration ever comes over a network.

One request per connection: a line of JSON in, a line of JSON out. Only the owner of the state folder can connect.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from services.errors import NoAnswer, NotRunning, SilokitError

Handler = Callable[..., Any]
_LIMIT = 1 << 20
_PATIENCE = 60.0  # seconds that a command waits for its answer
_log = structlog.get_logger()


class RemoteError(SilokitError):
    """The running service refused a command; the words are its own."""


def _address(folder: Path) -> str:
    return str(folder / "control.sock")


class ControlServer:
    """Answers commands in threads of its own.

    Args:
        folder: the state folder, which holds the socket.
        handlers: a function per command, called with the request's arguments; what it returns must be JSON.
    """

    def __init__(self, folder: Path, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._path = _address(folder)
        with suppress(FileNotFoundError):
            Path(self._path).unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._socket.bind(self._path)
        except OSError as error:
            raise SilokitError(
                f"the control socket cannot be made at {self._path}: {error}",
                fix="give the state folder a shorter path (at most about 90 characters) on a local disk",
            ) from error
        finally:
            os.umask(before)
        self._socket.listen(8)
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._socket.close()
        with suppress(FileNotFoundError):
            Path(self._path).unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            reply = self._call(_read_line(connection))
            connection.sendall(json.dumps(reply, default=str).encode() + b"\n")

    def _call(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers[request["command"]]
            return {"result": handler(**request.get("arguments", {}))}
        except SilokitError as error:
            return {"error": {"what": error.what, "fix": error.fix, "kept": error.kept, "code": error.exit_code}}
        except Exception as error:  # noqa: BLE001 - the command's fault must not end the service
            _log.exception("a command failed")
            return {"error": {"what": f"the command failed: {type(error).__name__}", "fix": "see the service's log"}}


def ask(folder: Path, command: str, **arguments: Any) -> Any:
    """Ask the service that holds the state in `folder`.

    Raises:
        NotRunning: nobody took the command.
        NoAnswer: the service has the command, and nobody knows what became of it.
        RemoteError: the service refused; its exit code is the service's error's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(_address(folder))
        except OSError as error:
            raise NotRunning(
                f"the service of {folder} does not answer", fix="start it with the `serve` command, in another terminal"
            ) from error
        try:
            connection.sendall(json.dumps({"command": command, "arguments": arguments}, default=str).encode() + b"\n")
            reply = json.loads(_read_line(connection))
        except (OSError, ValueError) as error:
            raise NoAnswer(
                f"the service of {folder} was given the command and did not say what became of it",
                fix="look with `coordinator runs` or `silo-agent status` before you give it again; the service's log "
                "says what it waits for",
                kept="the service may still carry the command out",
            ) from error
    if "error" in reply:
        refused = RemoteError(
            reply["error"]["what"], fix=reply["error"].get("fix", ""), kept=reply["error"].get("kept", "")
        )
        refused.exit_code = int(reply["error"].get("code", 1))
        raise refused
    return reply["result"]


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) <= _LIMIT:
        chunk = connection.recv(65536)
        if not chunk:
            break
        line += chunk
    return line
