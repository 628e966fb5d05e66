"""A backup is brought back: into an empty home alone, whole or not at all.

Everything is unpacked beside the home, compared with the archive's digests, brought up to date, and then takes the
home's place by one rename: whatever kills this in between leaves no party, and the next attempt clears up.

Run keys and workspaces are in no backup, so runs that were under way have ended with them, and the others are told.
What was received and not yet read is fetched again. Whether the copy is older than what the party has published, the
service finds out before anything leaves or is spent (`Party`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from services.artifact import parse_json
from services.backup import HOME, MANIFEST, OUTPUTS, Manifest, scratch
from services.chain import AUDIT, Chain
from services.errors import ConfigError, InvalidArtifact, StateError
from services.files import private_folder, sync_folder
from services.home import LOCK, RECENT, STATE_FILE, holds_party
from services.runs import RunBook
from services.state import State
from services.wiring import PartyConfig

_MAX_MANIFEST = 64 << 20
_BLOCK = 1 << 20


def restore(config: PartyConfig, program: str, source: Path) -> Manifest:
    """Bring a backup back; returns what it says of itself.

    Args:
        config: whose home it is to become.
        program: which program restores.
        source: the archive.

    Raises:
        ConfigError: the archive is another party's, or the home cannot take it.
        StateError: the home holds a party, or the archive is damaged or too new.
    """
    home = config.home
    _check_empty(home)
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch(home.parent, f".{home.name}-restore-") as folder:
            manifest = _unpack(source, folder, lambda found: _check_whose(found, config, program))
            state = private_folder(folder / HOME)
            if (state / STATE_FILE).exists():
                _end_what_cannot_go_on(state, manifest)
            _bring_outputs(folder / OUTPUTS, config.outputs)
            _take_place(state, home)
    except OSError as error:
        raise ConfigError(
            f"the backup cannot be unpacked into {home}: {error.strerror or error}",
            fix="`home` must be a folder inside a volume that is writable and has space, not the volume itself",
            kept="the backup, and the home as it was",
        ) from error
    return manifest


def _check_empty(home: Path) -> None:
    if not holds_party(home):
        return
    living = (home / LOCK).exists() and not _lock_is_free(home / LOCK)
    raise StateError(
        f"{home} holds a party" + (", and its service is running" if living else ""),
        fix=("stop the service, then move" if living else "move") + f" {home} away first; keep it until all is well",
        kept="everything: nothing was unpacked",
    )


def _lock_is_free(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _check_whose(manifest: Manifest, config: PartyConfig, program: str) -> None:
    found, wanted = (
        (manifest.program, manifest.name, manifest.federation),
        (program, config.name, config.federation),
    )
    if found != wanted:
        raise ConfigError(
            "the backup is of {} {} in {}, the configuration of {} {} in {}".format(*found, *wanted),
            fix="name the right backup, or the right --config",
            kept="everything: nothing was unpacked",
        )


def _unpack(source: Path, folder: Path, check: Callable[[Manifest], None]) -> Manifest:
    """Unpack an archive into a folder, and compare it with its manifest."""
    digests: dict[str, str] = {}
    manifest: Manifest | None = None
    try:
        with tarfile.open(source, "r:") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None or manifest is not None:
                    raise _damaged(source, "it holds what no backup holds")
                if entry.name == MANIFEST:
                    manifest = _read_manifest(source, content.read(_MAX_MANIFEST))
                else:
                    digests[entry.name] = _keep(content, folder / _inside(source, entry.name))
    except tarfile.TarError as error:
        raise _damaged(source, f"it is no archive, or was cut short ({error})") from error
    except FileNotFoundError:
        raise ConfigError(f"there is no file {source}", fix="check the path") from None
    if manifest is None:
        raise _damaged(source, "it was cut short")
    check(manifest)
    if wrong := sorted(digests.items() ^ manifest.files.items()):
        raise _damaged(source, f"{wrong[0][0]} is not what was saved")
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(path)
    return manifest


def _read_manifest(source: Path, data: bytes) -> Manifest:
    try:
        value = parse_json(data, _MAX_MANIFEST)
        if isinstance(value, dict) and value.get("format") != 1:
            raise StateError(
                f"{source} is of format {value.get('format')}, written by silokit {value.get('version')};"
                " this program knows format 1",
                fix="restore with that version of the program",
                kept="everything: nothing was unpacked",
            )
        return Manifest.model_validate(value)
    except (InvalidArtifact, ValidationError) as error:
        raise _damaged(source, "its manifest is malformed") from error


def _inside(source: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts[0] not in {HOME, OUTPUTS} or len(path.parts) < 2:
        raise _damaged(source, "it holds a file that belongs in no home")
    return path


def _keep(content: IO[bytes], path: Path) -> str:
    """Write one file, that its owner alone can read; returns its digest."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=0o700)
    seen = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        while block := content.read(_BLOCK):
            seen.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return seen.hexdigest()


def _end_what_cannot_go_on(folder: Path, manifest: Manifest) -> None:
    """Bring the state up to date with what no backup holds."""
    now = datetime.now(UTC)
    with State(folder) as state, state.transaction():
        Chain(state, AUDIT).append("state restored", now, backup=manifest.created.isoformat())
        book = RunBook(state)
        for run in book.live():
            if run.phase == "offered" and run.coordinator != manifest.name:
                continue  # nobody has drawn a key for it here
            why = f"this party was restored from a backup of {manifest.created:%Y-%m-%d %H:%M} UTC"
            book.move(run.run, "failed", now, why)
        for row in state.rows("SELECT sender, run, digest FROM inbox WHERE state IN ('ready', 'handed')"):
            key = f"{manifest.federation}/{row['sender']}/{row['run']}/{row['digest']}.manifest"
            state.write("DELETE FROM arrivals WHERE object=?", key)
        state.write("DELETE FROM inbox WHERE state IN ('ready', 'handed')")


def _bring_outputs(source: Path, target: Path) -> None:
    """Bring results back; what lies there already stays."""
    if not source.exists():
        return
    private_folder(target)
    for entry in source.iterdir():
        if not (target / entry.name).exists():
            entry.rename(target / entry.name)
    sync_folder(target)


def _take_place(state: Path, home: Path) -> None:
    if home.exists():
        passing = {LOCK, *RECENT}  # of a service that waits
        if others := sorted(path.name for path in home.iterdir() if path.name not in passing):
            raise StateError(
                f"{home} holds {', '.join(others[:5])}", fix="move that away first", kept="everything as it was"
            )
        for name in passing:
            (home / name).unlink(missing_ok=True)
    state.rename(home)  # onto an empty folder, or none
    sync_folder(home.parent)


def _damaged(source: Path, why: str) -> StateError:
    return StateError(
        f"{source} is no backup that can be restored: {why}",
        fix="take another backup, or fetch this one again from where it is kept",
        kept="everything: nothing was unpacked",
    )
