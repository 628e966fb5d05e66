"""Files that survive a power cut: written whole or not at all, private unless said otherwise."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
"""How the names of files begin that were not finished: after a crash they are nobody's."""


def sync_folder(folder: Path) -> None:
    """Make the folder's entries (a rename, a link, a removal) durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Replace a file durably by what is written until this ends well: a reader sees the old bytes or the new ones."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as out:
            os.fchmod(out.fileno(), mode)
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file durably: a reader sees the old bytes or the new ones, never a mixture."""
    with replacing(path, mode) as out:
        out.write(content)


def copy_to_disk(source: Path, target: Path) -> None:
    """Copy a file down to the disk. Whoever dies over it leaves a part of it, and the next try writes over that."""
    with source.open("rb") as data, target.open("wb") as out:
        shutil.copyfileobj(data, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


def others_can_read(file: BinaryIO) -> bool:
    """Whether an open file is readable by others; asked of the open file, so that what is read is what was checked."""
    return bool(os.fstat(file.fileno()).st_mode & 0o077)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter; its parents too where they are missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def remove_tree(path: Path) -> None:
    """Remove a folder and what is in it; fine when it is gone already."""
    if path.exists():
        shutil.rmtree(path)
