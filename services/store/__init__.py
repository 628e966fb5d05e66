"""The port to an S3-like object store: put if absent, get under a limit, stat, list, and purge of one's own.

Objects are immutable, and whoever calls names them by content, so that a repeated put is harmless. The one exception
is a signed pointer to what is newest, which its owner replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from services.errors import StoreError

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}(/[a-z0-9][a-z0-9._-]{0,127}){1,5}")


class ObjectAbsent(StoreError):
    """There is no such object."""


class ObjectTooLarge(StoreError):
    """The object is larger than the caller allows."""


def check_key(key: str) -> str:
    """Accept a key of lower-case path segments that can never climb out of a folder.

    Raises:
        StoreError: the key is anything else.
    """
    if not _KEY.fullmatch(key):
        raise StoreError("an object key is made of lower-case segments of letters, digits, dots and hyphens")
    return key


class ObjectStore(Protocol):
    """Where sealed artifacts lie."""

    def put(self, key: str, source: Path | bytes) -> bool:
        """Store an object durably unless the key exists; returns whether it was stored now.

        Raises:
            StoreError: the store could not take it; nothing half-written is visible.
        """

    def replace(self, key: str, content: bytes) -> None:
        """Store a small object durably in the place of the one that is there; readers see the old one or the new.

        Raises:
            StoreError: the store could not take it; the old one stays.
        """

    def get(self, key: str, target: Path, limit: int) -> None:
        """Stream an object into a file, which appears whole or not at all.

        Raises:
            ObjectAbsent: there is no such object.
            ObjectTooLarge: it has more than `limit` bytes; nothing is kept.
            StoreError: the store did not deliver.
        """

    def read(self, key: str, limit: int) -> bytes:
        """A small object's bytes.

        Raises:
            ObjectAbsent, ObjectTooLarge, StoreError: as `get`.
        """

    def stat(self, key: str) -> int | None:
        """The object's size in bytes; None when it is absent."""

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""

    def delete(self, prefix: str) -> int:
        """Delete every object under the caller's own `prefix`; returns how many there were."""

    def time(self) -> datetime | None:
        """What the store says the time is, to a second or so; None when it does not tell.

        Raises:
            StoreError: it does not answer.
        """


def skew(store: ObjectStore, clock: Callable[[], datetime]) -> timedelta | None:
    """By how much the store's clock is ahead of `clock`, to a second or so; None when the store does not tell.

    Raises:
        StoreError: it does not answer.
    """
    before = clock()
    said = store.time()
    return said - (before + (clock() - before) / 2) if said else None
