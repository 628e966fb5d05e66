"""Hash chains in the state file: records that nobody can change, drop or reorder afterwards without it being seen.

The first head is SHA-256 of `silokit/v1/chain/NAME`, every further one SHA-256 of the head before it (raw bytes)
followed by the record's canonical JSON. Manifests carry the heads as they stood when their artifact was sealed, so
whoever keeps a party's manifests can tell whether that party rewrote its past; `verify` does so offline.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.artifact import canonical_json
from services.errors import StateError
from services.state import State, now_text

AUDIT = "audit"
"""The chain of a party's decisions: what it sealed, received, refused, joined and declined, and by which policy."""


@dataclass(frozen=True)
class Link:
    """One record in its place."""

    number: int
    record: Mapping[str, Any]
    head: str


class Chain:
    """One named chain of a party.

    Args:
        state: the party's state.
        name: lower-case letters.
    """

    def __init__(self, state: State, name: str) -> None:
        self._state = state
        self._name = name
        self._start = hashlib.sha256(f"silokit/v1/chain/{name}".encode()).hexdigest()

    @property
    def head(self) -> str:
        """What the whole chain comes down to, in hexadecimal."""
        last = self._last()
        return last["head"] if last else self._start

    def append(self, event: str, at: datetime, **facts: Any) -> str:
        """Add a record for life; returns the new head. Within a transaction it stands or falls with it."""
        record = canonical_json({"event": event, "at": now_text(at), **facts})
        with self._state.transaction():
            last = self._last()
            number, before = (last["number"] + 1, last["head"]) if last else (1, self._start)
            head = _next(before, record)
            self._state.write("INSERT INTO chains VALUES (?,?,?,?)", self._name, number, record.decode(), head)
        return head

    def links(self) -> Iterator[Link]:
        """Every record, oldest first."""
        rows = self._state.rows("SELECT number, record, head FROM chains WHERE chain=? ORDER BY number", self._name)
        for row in rows:
            yield Link(row["number"], json.loads(row["record"]), row["head"])

    def verify(self, carried: Iterable[str] = ()) -> int:
        """Recompute the chain; returns how many records it has.

        Args:
            carried: heads that signed manifests carried, each of which must stand in the chain.

        Raises:
            StateError: a record was changed, dropped, added or moved.
        """
        head, count, heads = self._start, 0, {self._start}
        for row in self._state.rows("SELECT * FROM chains WHERE chain=? ORDER BY number", self._name):
            count += 1
            head = _next(head, row["record"].encode())
            heads.add(head)
            if (row["number"], row["head"]) != (count, head):
                raise StateError(
                    f"the {self._name} chain breaks at record {count}: it was changed, dropped or moved",
                    fix="compare with a backup, and find out who could write to the state folder",
                )
        if missing := set(carried) - heads:
            raise StateError(
                f"{len(missing)} heads that this party signed are not in its {self._name} chain: it was rewritten",
                fix="compare with a backup, and find out who could write to the state folder",
            )
        return count

    def _last(self) -> Any:
        return self._state.row("SELECT number, head FROM chains WHERE chain=? ORDER BY number DESC LIMIT 1", self._name)


def _next(head: str, record: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(head) + record).hexdigest()
