"""What a party spends from: nothing new while it is not known whether its state is an old copy, or one of two."""

from __future__ import annotations

import threading
from collections.abc import Callable

from services.artifact import Spend
from services.errors import StoreError, TrustError
from services.ledger import Ledger
from services.state import State

Reserve = Callable[[str, str, Spend], None]
"""Called as `reserve(run, step, spend)` before work that spends; raises PolicyRefusal."""
_UNKNOWN = "nothing is spent until the store has shown that this state is no old copy"


class Purse:
    """A `Reserve` that can be closed for what was not paid for before.

    Args:
        state: the party's state.
        reserve: asks the ledger.
        look: looks whether this party went on elsewhere, before anything new is paid for; raises StateError if so,
            and StoreError or TrustError where that cannot be known now.
    """

    def __init__(self, state: State, reserve: Reserve, look: Callable[[], None]) -> None:
        self._ledger = Ledger(state)
        self._reserve = reserve
        self._look = look
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
            TrustError: the step has not been paid for, and the purse is closed or nobody can look: its run waits.
            StateError: the state is an old copy, or two agents share one identity.
            PolicyRefusal: the ledger does not grant it.
        """
        if not self._ledger.has_paid(run, step):
            if self._closed.is_set():
                raise TrustError(_UNKNOWN)
            try:
                self._look()
            except StoreError as error:
                raise TrustError(f"{_UNKNOWN}: {error.what}") from error
        self._reserve(run, step, spend)
