"""Keyholders' keys: a private file for a medium that lies in a drawer, and a public one to hand to the coordinator."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from services.artifact import Name, canonical_json
from services.errors import TrustError
from services.files import write_atomic
from services.keyfile import read_public
from services.keys import SigningKey, VerifyKey, load_signing, save_private


class Keyholder(BaseModel):
    """What a keyholder shows of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    verify: VerifyKey


def make(name: str, folder: Path) -> Keyholder:
    """Draw a keyholder's key into `NAME.key` and `NAME.pub`.

    Raises:
        TrustError: there is such a key already.
    """
    key = SigningKey.generate()
    save_private(folder / f"{name}.key", key)
    holder = Keyholder(name=name, verify=key.public)
    write_atomic(folder / f"{name}.pub", canonical_json(holder.model_dump(mode="json")), mode=0o644)
    return holder


def read(paths: list[Path]) -> dict[str, VerifyKey]:
    """Keyholders' public keys by their names.

    Raises:
        TrustError: a file is absent or damaged, or two bear one name.
    """
    found = [read_public(path, Keyholder) for path in paths]
    if len({one.name for one in found}) != len(found) or len({one.verify.hex for one in found}) != len(found):
        raise TrustError("two keyholders have one name or one key", fix="have each make a key of its own")
    return {one.name: one.verify for one in found}


def present(folder: Path) -> list[SigningKey]:
    """The private keys in a folder, which may be a medium that is not there just now.

    Raises:
        TrustError: one of them is damaged or can be read by others.
    """
    return [load_signing(path) for path in sorted(folder.glob("*.key"))]
