"""The coordinator's half of SGDE: wait until every silo's generator is in the pool, and say so."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.sgde.messages import COMPLETE, PUSHED
from services.artifact import NoData
from services.contract import Context, Done, Failed, Message, Received, Step, Work
from services.errors import InvalidArtifact


class Coordinator:
    """See `services.contract.Half`.

    Args:
        context: the run as the coordinator knows it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pushed: set[str] = set()

    def begin(self) -> Iterator[Step]:
        """Wait: the silos speak first."""
        yield from ()

    def receive(self, artifact: Received) -> Iterator[Step]:
        """See `services.contract.Half.receive`."""
        if artifact.kind != PUSHED or artifact.sender not in self._awaited():
            raise InvalidArtifact(f"{artifact.sender} has no {artifact.kind} to send now")
        self._pushed.add(artifact.sender)
        if not self._awaited():
            yield Work("complete", lambda _: Message(COMPLETE, b"", NoData()), to=self._context.silos)
            yield Done()

    def deadline(self, name: str) -> Iterator[Step]:
        """See `services.contract.Half.deadline`."""
        yield Failed(
            f"the {name}'s deadline passed: {', '.join(self._awaited())} still awaited for their generators; "
            "those of the others stay in the pool"
        )

    def _awaited(self) -> list[str]:
        return [silo for silo in self._context.silos if silo not in self._pushed]


half = Coordinator
