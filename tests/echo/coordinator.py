"""The coordinator's half of echo: wait for every greeting, send the chorus to all."""

from __future__ import annotations

from collections.abc import Iterator

from services.artifact import Derived
from services.contract import Context, Done, Failed, Message, ProgressCallback, Received, Step, Work
from services.errors import InvalidArtifact


class Coordinator:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._greetings: dict[str, Received] = {}

    def begin(self) -> Iterator[Step]:
        yield from ()

    def receive(self, artifact: Received) -> Iterator[Step]:
        if artifact.kind != "echo.greeting" or artifact.sender in self._greetings:
            raise InvalidArtifact("not a greeting")
        self._greetings[artifact.sender] = artifact
        if len(self._greetings) == len(self._context.silos):
            yield Work("chorus", self._sing, to=self._context.silos)
            yield Done()

    def deadline(self, name: str) -> Iterator[Step]:
        awaited = [silo for silo in self._context.silos if silo not in self._greetings]
        yield Failed(f"the {name}'s deadline passed: {', '.join(awaited)} awaited")

    def _sing(self, progress: ProgressCallback) -> Message:
        progress("chorus", 1, 1, None)
        greetings = [self._greetings[silo] for silo in self._context.silos]
        words = b"".join(greeting.path.read_bytes() for greeting in greetings)
        return Message("echo.chorus", words, Derived(digests=tuple(greeting.digest for greeting in greetings)))


half = Coordinator
