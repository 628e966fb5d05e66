"""The pinned root: what a party believes before it believes anything else, and what people compare by telephone."""

from __future__ import annotations

from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from services.errors import NotYet, TrustError
from services.files import private_folder, write_atomic
from services.keys import fingerprint

PINNED = "pinned.root.json"


def read_root(data: bytes) -> Metadata[Root]:
    """A root that its own keys have signed.

    Raises:
        TrustError: it is malformed, or signed by too few of the keys that it names.
    """
    try:
        found: Metadata[Root] = Metadata[Root].from_bytes(data)
        if isinstance(found.signed, Root):
            found.signed.verify_delegate(Root.type, found.signed_bytes, found.signatures)
            return found
    except (RepositoryError, DeserializationError):
        pass
    raise TrustError("the root is not what its keyholders signed", fix="ask the consortium to send it again")


def root_fingerprint(data: bytes) -> str:
    """The root as people read it to each other over the telephone: its keys, thresholds, version and end.

    Raises:
        TrustError: as `read_root`.
    """
    return fingerprint(read_root(data).signed_bytes)


def pin(folder: Path, data: bytes) -> None:
    """Pin a root for life; its successors are believed by the signatures of both.

    Raises:
        TrustError: it does not hold, or another root was pinned before.
    """
    if check_pin(folder, data):
        write_atomic(private_folder(folder) / PINNED, data)


def check_pin(folder: Path, data: bytes) -> bool:
    """Whether a root has yet to be pinned; a successor of the pinned one, which the party knows, has not.

    Raises:
        TrustError: it does not hold, or another root was pinned before.
    """
    shown, path = root_fingerprint(data), folder / PINNED
    if not path.exists() or root_fingerprint(path.read_bytes()) == shown:
        return True
    if any(root_fingerprint(old.read_bytes()) == shown for old in (folder / "metadata" / "root_history").glob("*")):
        return False
    raise TrustError(
        "another root is pinned already",
        fix=f"if the consortium was really founded anew, move {folder} away and enrol again",
        kept="the pinned root stays in force",
    )


def pinned(folder: Path) -> bytes:
    """The pinned root.

    Raises:
        NotYet: the party has not been admitted yet.
    """
    try:
        return (folder / PINNED).read_bytes()
    except OSError:
        raise NotYet(
            "this party has not been admitted to a federation yet",
            fix="run `enroll`, send the request to the consortium, then run `enroll --admission FILE`",
        ) from None
