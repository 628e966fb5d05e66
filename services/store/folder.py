"""A folder as object store: for one machine or a shared file system, safe for several processes at once.

An object appears by an atomic hard link after its bytes were synced, so a reader sees it whole or not at all and
of several writers exactly one wins.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from services.errors import StoreError
from services.files import TEMPORARY, sync_folder, write_atomic
from services.store import ObjectAbsent, ObjectTooLarge, check_key

_CHUNK = 1 << 20


class FolderStore:
    """An `ObjectStore` in a folder.

    Args:
        root: the folder; made when absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        with _store_errors(f"the store folder {root} cannot be used"):
            root.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, source: Path | bytes) -> bool:
        """See `ObjectStore.put`."""
        target = self.root / check_key(key)
        temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        with _store_errors(f"could not store {key}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                return False
            try:
                with temporary.open("xb") as out:
                    if isinstance(source, bytes):
                        out.write(source)
                    else:
                        with source.open("rb") as data:
                            shutil.copyfileobj(data, out, _CHUNK)
                    out.flush()
                    os.fsync(out.fileno())
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return False
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(target.parent)
        return True

    def replace(self, key: str, content: bytes) -> None:
        """See `ObjectStore.replace`."""
        with _store_errors(f"could not store {key}"):
            (self.root / check_key(key)).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.root / key, content, mode=0o644)

    def get(self, key: str, target: Path, limit: int) -> None:
        """See `ObjectStore.get`."""
        source = self.root / check_key(key)
        temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        with _store_errors(f"could not fetch {key}"):
            try:
                with _opened(source, key) as data, temporary.open("xb") as out:
                    os.fchmod(out.fileno(), 0o600)
                    left = limit
                    while chunk := data.read(min(_CHUNK, left + 1)):
                        left -= len(chunk)
                        if left < 0:
                            raise ObjectTooLarge(f"{key} is larger than {limit} bytes")
                        out.write(chunk)
                temporary.rename(target)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, key: str, limit: int) -> bytes:
        """See `ObjectStore.read`."""
        with _store_errors(f"could not fetch {key}"), _opened(self.root / check_key(key), key) as data:
            content: bytes = data.read(limit + 1)
        if len(content) > limit:
            raise ObjectTooLarge(f"{key} is larger than {limit} bytes")
        return content

    def stat(self, key: str) -> int | None:
        """See `ObjectStore.stat`."""
        try:
            return (self.root / check_key(key)).stat().st_size
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        yield from (key for key in self._files(prefix) if not _unfinished(key))

    def delete(self, prefix: str) -> int:
        """See `ObjectStore.delete`; takes what a crash left unfinished with them."""
        count = 0
        with _store_errors(f"could not delete {prefix}"):
            for key in self._files(prefix):
                (self.root / key).unlink(missing_ok=True)
                count += not _unfinished(key)
        return count

    def time(self) -> datetime | None:
        """See `ObjectStore.time`; a shared folder's is told by whoever keeps the files."""
        mark = self.root / f"{TEMPORARY}{secrets.token_hex(8)}"
        with _store_errors("could not ask for the time"):
            try:
                mark.touch()
                return datetime.fromtimestamp(mark.stat().st_mtime, UTC)
            finally:
                mark.unlink(missing_ok=True)

    def _files(self, prefix: str) -> Sequence[str]:
        folder = self.root / prefix.rpartition("/")[0]
        with _store_errors(f"could not list {prefix}"):
            keys = [path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file()]
        return sorted(key for key in keys if key.startswith(prefix))


def _unfinished(key: str) -> bool:
    return key.rpartition("/")[2].startswith(TEMPORARY)


@contextmanager
def _opened(path: Path, key: str) -> Iterator:  # type: ignore[type-arg]  # a binary file
    try:
        # a pipe that somebody put there is opened without waiting for its other end, and is no object
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as data:
            _check_regular(data.fileno())
            yield data
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ObjectAbsent(f"there is no object {key}") from None


def _check_regular(descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise FileNotFoundError


@contextmanager
def _store_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{what}: {error.strerror or type(error).__name__}",
            fix="check free space and permissions of the store; the kit tries again by itself",
            kept="the sealed artifact waits in the outbox",
        ) from error
