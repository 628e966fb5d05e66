"""A server in a folder of its own, in the foreground of its own session: started, awaited, ended, and gone.

Killing, stopping and starting again keep folder and ports, so that clients meet the server that they knew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from deploy.servers import ServerError


class Server(ABC):
    """A server that this process runs.

    Args:
        folder: the server's own.
    """

    title: ClassVar[str]
    boot_seconds: ClassVar[float]
    stop_seconds: ClassVar[float]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerMissing: it is not installed.
            ServerError: it does not come up; the message says why.
        """
        self.require()
        self._process = self._spawn(self._prepare())
        deadline = time.monotonic() + self.boot_seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(self.log().splitlines()[-15:])
                self.close()
                raise ServerError(f"{self.title} does not start in {self.folder}:\n{last}", fix="see the log above")
            time.sleep(0.05)

    def kill9(self) -> None:
        """End the server as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server in order; one that does not listen any more is killed."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again in the same folder on the same ports, after whichever end.

        Raises:
            ServerError: as `start`.
        """
        self.stop()
        self.start()

    def close(self) -> None:
        """End at once the server and whatever stands beside it."""
        self.kill9()

    def log(self) -> str:
        """Everything that the server has said."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @classmethod
    @abstractmethod
    def require(cls) -> None:
        """Go on only where the server is installed.

        Raises:
            ServerMissing: it is not.
        """

    @abstractmethod
    def _prepare(self) -> Sequence[str]:
        """Write what the server reads; returns the words that start it."""

    @abstractmethod
    def _surroundings(self) -> dict[str, Any]:
        """Environment, folder and account of the server: nothing of the caller's environment."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether clients are served."""

    @abstractmethod
    def _ended(self) -> None:
        """Wait for, and clear away, what outlives the process."""

    def _spawn(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                words, **self._surroundings(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if number != signal.SIGKILL:
            with suppress(subprocess.TimeoutExpired):
                process.send_signal(number)
                process.wait(self.stop_seconds)
        # what was started may be a shell whose child, in the same session, outlives it
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._ended()
