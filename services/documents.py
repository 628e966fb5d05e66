"""Documents that people hand to each other: files, or `-` for a standard stream.

A stream needs no file system that both sides see, as when a command runs inside a container (`kubectl exec -i`). What
a command says to people goes to standard error while a document goes to standard output.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from services.errors import ConfigError, TrustError
from services.files import write_atomic

STREAM = Path("-")


def read_document(path: Path, limit: int) -> bytes:
    """A document from somebody else, of at most `limit` bytes.

    Raises:
        TrustError: it is absent or too large.
    """
    try:
        with nullcontext(sys.stdin.buffer) if path == STREAM else path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
    if len(data) > limit:
        raise TrustError(f"{path} is larger than any document of its kind")
    return data


def write_document(path: Path, data: bytes) -> None:
    """Write a document that is no secret."""
    if path == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomic(path, data, mode=0o644)


def check_told(path: Path, fingerprint: str | None) -> None:
    """Refuse to ask a person on the stream on which a document comes.

    Raises:
        ConfigError: the document comes on standard input, and no fingerprint was given.
    """
    if path == STREAM and fingerprint is None:
        raise ConfigError(
            "the document comes on standard input, so nobody can be asked there for the fingerprint",
            fix="give --fingerprint, as it was read to you by telephone",
            kept="nothing was read",
        )
