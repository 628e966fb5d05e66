"""A silo's half of echo: greet, hear everybody's greeting, done."""

from __future__ import annotations

from collections.abc import Iterator

from services.artifact import Unprotected
from services.contract import Context, Done, Failed, Message, ProgressCallback, Received, Step, Work
from services.errors import InvalidArtifact
from tests.echo import UNPROTECTED


class Silo:
    def __init__(self, context: Context) -> None:
        self._context = context

    def begin(self) -> Iterator[Step]:
        yield Work("greeting", self._greet, to=(self._context.coordinator,))

    def receive(self, artifact: Received) -> Iterator[Step]:
        if (artifact.kind, artifact.sender) != ("echo.chorus", self._context.coordinator):
            raise InvalidArtifact("not a chorus")
        target = self._context.workspace / "chorus.txt"

        def keep(_: ProgressCallback) -> None:
            target.write_bytes(artifact.path.read_bytes())

        yield Work("keep", keep)
        yield Done({"chorus.txt": target})

    def deadline(self, name: str) -> Iterator[Step]:
        yield Failed(f"the {name}'s deadline passed: {self._context.coordinator} was awaited")

    def _greet(self, progress: ProgressCallback) -> Message:
        progress("greeting", 1, 1, None)
        words = f"hello from {self._context.me}\n".encode()
        return Message("echo.greeting", words, Unprotected(reason=UNPROTECTED["echo.greeting"]))


half = Silo
