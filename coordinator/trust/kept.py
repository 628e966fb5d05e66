"""The coordinator's own trust: what the silos see, by the same way through the store, after it was brought there."""

from __future__ import annotations

from typing import Any

from coordinator.trust.repository import Repository
from services.store import ObjectStore
from services.trust import Belief
from services.trust.tuf import TufTrust


class KeptTrust(TufTrust):
    """See `TufTrust`; each look renews the timestamp when it is time.

    Args:
        repository: the master copy.
        store: where it is shown.
        parts: the rest of `TufTrust`.
    """

    def __init__(self, repository: Repository, store: ObjectStore, **parts: Any) -> None:
        super().__init__(store=store, **parts)
        self._repository = repository

    def look(self) -> Belief:
        """See `TufTrust.look`."""
        self._repository.upload(self._store)
        return super().look()
