"""Key files: JSON, durable, never written over another key; a private one is read only when nobody else can."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from services.artifact import canonical_json, parse_json
from services.errors import InvalidArtifact, TrustError
from services.files import write_atomic

Kind = Literal["signing", "sealing"]
_MAX_BYTES = 1 << 16
_Model = TypeVar("_Model", bound=BaseModel)


class _PrivateKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Kind
    private: str


def write_private(path: Path, kind: Kind, raw: bytes) -> None:
    """Write a private key into a new file of mode 0600.

    Raises:
        TrustError: the file exists.
    """
    if path.exists():
        raise TrustError(f"there is a key at {path} already", fix="move it away first", kept="the existing key")
    write_atomic(path, canonical_json(_PrivateKey(kind=kind, private=raw.hex()).model_dump()))


def read_private(path: Path, kind: Kind, length: int) -> bytes:
    """Read a private key of `length` bytes.

    Raises:
        TrustError: the file is absent, readable by others, damaged, or of another kind.
    """
    found = _parse(path, _read(path, forbidden=0o077), _PrivateKey)
    if found.kind != kind:
        raise TrustError(f"{path} holds a {found.kind} key, not a {kind} key", fix="restore the file from its backup")
    if not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", found.private):
        raise _damaged(path)
    return bytes.fromhex(found.private)


def read_public(path: Path, model: type[_Model]) -> _Model:
    """Read a file that is no secret.

    Raises:
        TrustError: the file is absent or damaged.
    """
    return _parse(path, _read(path, forbidden=0), model)


def _read(path: Path, *, forbidden: int) -> bytes:
    try:
        with path.open("rb") as file:
            # asked of the open file, so that what is read is what was checked
            if os.fstat(file.fileno()).st_mode & forbidden:
                raise TrustError(f"the private key {path} can be read by others", fix=f"chmod 600 {path}")
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", fix="check the path; `init` makes keys") from error


def _parse(path: Path, content: bytes, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(parse_json(content, _MAX_BYTES))
    except (InvalidArtifact, ValidationError):
        # without the cause, which may quote the key
        raise _damaged(path) from None


def _damaged(path: Path) -> TrustError:
    return TrustError(f"{path} is damaged", fix="restore it from its backup, or make a new key and enrol anew")
