"""What a party spends from: nothing new while it is not known whether its state is an old copy."""

from __future__ import annotations

import threading
from collections.abc import Callable

from services.artifact import Spend
from services.errors import TrustError
from services.ledger import Ledger
from services.state import State

Reserve = Callable[[str, str, Spend], None]
"""Called as `reserve(run, step, spend)` before work that spends; raises PolicyRefusal."""


class Purse:
    """A `Reserve` that can be closed for what was not paid for before.

    Args:
        state: the party's state.
        reserve: asks the ledger.
    """

    def __init__(self, state: State, reserve: Reserve) -> None:
        self._ledger = Ledger(state)
        self._reserve = reserve
        self._closed = threading.Event()

    def close(self) -> None:
        """Spend nothing new from now on."""
        self._closed.set()

    def open(self) -> None:
        """Spend what the ledger grants from now on."""
        self._closed.clear()

    def __call__(self, run: str, step: str, spend: Spend) -> None:
        """Pay for a step.

        Raises:
            TrustError: the purse is closed, and the step has not been paid for: its run waits.
            PolicyRefusal: the ledger does not grant it.
        """
        if self._closed.is_set() and not self._ledger.has_paid(run, step):
            raise TrustError("nothing is spent until the store has shown that this state is no old copy")
        self._reserve(run, step, spend)
