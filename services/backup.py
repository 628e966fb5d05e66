"""A party's backup: one private archive of what must outlive its machine, taken while it serves.

In it: keys of every age, state file (with ledger and audit log), trust, certificates, credentials, sealed artifacts
that have yet to leave, own generators, whatever else lies in the home; results only when asked for. Not in it: what a
run's end destroys (run keys, workspaces, received plaintext), for a backup would keep it beyond that end.

It is consistent: the state file is copied first, of one moment, and everything that it names lies there already or is
seen to have left since; keys and the trust repository are copied under their own locks. `manifest.json`, the last
entry, holds the SHA-256 of every other one; an archive without it was cut short.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

from services.artifact import Digest, Name, canonical_json
from services.documents import STREAM
from services.errors import ConfigError, StateError
from services.files import TEMPORARY, remove_tree, sync_folder
from services.home import FORMER, KEYS, LOCK, NEXT, OUTBOX, PASSING, STATE_FILE
from services.keyring import taking_turns
from services.versions import program_version
from services.wiring import PartyConfig

MANIFEST, HOME, OUTPUTS = "manifest.json", "state", "outputs"
"""The archive's entries: the manifest, and the folders of home and results."""
SCRATCH = ".backup-"
_TRIES = 10  # at a moment at which nothing leaves
_BLOCK = 1 << 20


class Manifest(BaseModel):
    """What an archive says of itself: whose it is, of when, and every file with its digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    program: str
    version: str
    federation: Name
    name: Name
    created: AwareDatetime
    files: dict[Annotated[str, StringConstraints(min_length=1)], Digest]


def backup(config: PartyConfig, program: str, out: Path, *, outputs: bool) -> Manifest:
    """Write a party's backup into a new file of mode 0600, or to standard output.

    Args:
        config: the party's.
        program: which program it runs.
        out: the file; it appears whole or not at all.
        outputs: take the results with it.

    Raises:
        ConfigError: there is no party, or the file may not lie there.
        StateError: no consistent copy could be taken.
    """
    if not config.home.is_dir():
        raise ConfigError(f"there is no party in {config.home}", fix="name the right --config")
    if out == STREAM:
        return _write(config, program, sys.stdout.buffer, outputs=outputs)
    _check_place(config, out)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=out.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            manifest = _write(config, program, file, outputs=outputs)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(out)
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_folder(out.parent)
    return manifest


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A private folder that is removed at the end; so are those that a kill left behind."""
    for old in parent.glob(f"{prefix}*"):
        with closing_folder(old) as descriptor:
            if _is_free(descriptor):
                remove_tree(old)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with closing_folder(folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def closing_folder(path: Path) -> Iterator[int]:
    """An open folder, to be locked."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _check_place(config: PartyConfig, out: Path) -> None:
    if out.exists():
        raise ConfigError(f"{out} exists already", fix="name a new file, for example by the date", kept="that file")
    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent}", fix="make it, or name another")
    private = [config.home, *([config.store.folder] if config.store.folder else [])]
    if any(out.resolve().is_relative_to(folder.resolve()) for folder in private):
        raise ConfigError(
            f"{out} lies in the party's home or in the store, which every party reads",
            fix="keep backups on another machine, where nobody but you can read them",
        )


def _write(config: PartyConfig, program: str, file: IO[bytes], *, outputs: bool) -> Manifest:
    home = config.home
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        archive = _Archive(tar)
        _add_state(home, archive)
        with taking_turns(home):
            for name in (KEYS, NEXT, FORMER):
                archive.add_folder(HOME, home, home / name)
        for entry in _lasting(home):
            with _unchanged(entry):
                archive.add_folder(HOME, home, entry)
        if outputs:
            archive.add_folder(OUTPUTS, config.outputs, config.outputs)
        manifest = Manifest(
            program=program, version=program_version(), federation=config.federation, name=config.name,
            created=datetime.now(UTC), files=archive.digests,
        )  # fmt: skip
        archive.add_bytes(MANIFEST, canonical_json(manifest.model_dump(mode="json")))
    return manifest


def _add_state(home: Path, archive: _Archive) -> None:
    """Add the state file as it was at one moment, and the bodies that were to leave at that moment."""
    if not (home / STATE_FILE).exists():
        return
    with scratch(home, SCRATCH) as folder:
        copy = folder / STATE_FILE
        for _ in range(_TRIES):
            copy.unlink(missing_ok=True)
            missing = [
                name
                for name in _copy_state(home / STATE_FILE, copy)
                if not archive.add(f"{HOME}/{OUTBOX}/{name}", home / OUTBOX / name)
            ]
            if not missing:
                archive.add(f"{HOME}/{STATE_FILE}", copy)
                return
    raise StateError("artifacts leave faster than they can be copied", fix="take the backup again in a moment")


def _copy_state(source: Path, target: Path) -> list[str]:
    """Copy the state file; returns the names of the bodies in the outbox that it wants to send."""
    try:
        with closing(sqlite3.connect(source, timeout=30)) as live, closing(sqlite3.connect(target)) as copy:
            live.execute("PRAGMA query_only=ON")
            live.backup(copy)
            return [str(row[0]) for row in copy.execute("SELECT body FROM outbox WHERE sent IS NULL")]
    except sqlite3.Error as error:
        raise StateError(f"{source} cannot be copied: {error}", fix="check the disk; is it a state file?") from error


def _lasting(home: Path) -> Iterator[Path]:
    """What a home holds beside state file, outbox and keys, and a backup too."""
    for entry in sorted(home.iterdir()):
        name = entry.name
        passing = name in PASSING or name.startswith(".") or name.endswith(".incoming")
        if not passing and not name.startswith(STATE_FILE) and name not in {OUTBOX, KEYS, NEXT, FORMER}:
            yield entry


@contextmanager
def _unchanged(entry: Path) -> Iterator[None]:
    """Let nobody change a folder that is changed under a lock."""
    try:
        lock = (entry / LOCK).open("rb")
    except OSError:  # it has none
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Archive:
    """Files on their way into an archive, each with its digest."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.digests: dict[str, str] = {}

    def add(self, name: str, path: Path) -> bool:
        """Add a file by its content, links followed, once; returns False when there is none any more."""
        if name in self.digests or path.is_dir():
            return True
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        with file:
            self._put(name, file, os.fstat(file.fileno()).st_size)
        return True

    def add_folder(self, under: str, root: Path, folder: Path) -> None:
        """Add a folder's finished files, or a file, by their paths from `root`, as `under` in the archive."""
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if not path.name.startswith((TEMPORARY, "tmp")) and path.name != LOCK:
                self.add(f"{under}/{path.relative_to(root).as_posix()}", path)

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a file by its bytes."""
        self._put(name, BytesIO(content), len(content))

    def _put(self, name: str, file: Any, size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, 0o600, int(datetime.now(UTC).timestamp())
        reader = _Hashing(file)
        self._tar.addfile(entry, reader)
        self.digests[name] = reader.digest.hexdigest()


class _Hashing:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = _BLOCK) -> bytes:
        block: bytes = self._file.read(size)
        self.digest.update(block)
        return block
