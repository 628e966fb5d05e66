"""The port to an event bus: small notices that an artifact is there.

A notice is a hint and never trusted: losing, repeating, reordering or forging one changes nothing that a party
does in the end, because a party also lists the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.errors import SilokitError


class BusError(SilokitError):
    """The bus does not answer; notices wait in the outbox and listing the store goes on."""

    exit_code = 11


@dataclass(frozen=True)
class Notice:
    """An announcement: `object` is the key of a manifest in the store; `token` acknowledges it."""

    object: str
    token: str = ""


class EventBus(Protocol):
    """Carries notices between parties."""

    def announce(self, recipient: str, notice: Notice) -> None:
        """Queue a notice durably for one party.

        Raises:
            BusError: it was not queued.
        """

    def consume(self, limit: int = 100) -> list[Notice]:
        """The oldest notices for this party, at once; an empty list when there are none.

        Raises:
            BusError: the bus does not answer.
        """

    def acknowledge(self, notice: Notice) -> None:
        """Forget a notice that is safe in the state file; until then it is delivered again."""

    def wait_ready(self, seconds: float) -> None:
        """Wait until notices can be sent and received.

        Raises:
            BusError: why they cannot.
        """

    def close(self) -> None:
        """Let go of the bus."""
