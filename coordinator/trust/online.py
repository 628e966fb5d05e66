"""The coordinator's online keys for snapshot and timestamp: one file per key, and the root says which is in force."""

from __future__ import annotations

from pathlib import Path

from tuf.api.metadata import Root

from services.errors import TrustError
from services.files import private_folder
from services.keys import SigningKey, load_signing, save_private


class OnlineKeys:
    """The keys in a private folder.

    Args:
        folder: made when a key is drawn.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def draw(self) -> SigningKey:
        """A new key, which signs once a root names it."""
        key = SigningKey.generate()
        save_private(self._path(key.public.key_id), key)
        return key

    def of(self, root: Root) -> SigningKey:
        """The key that the root names.

        Raises:
            TrustError: it is not here.
        """
        (key_id,) = root.roles["timestamp"].keyids
        path = self._path(key_id)
        if not path.exists():
            raise TrustError(
                "the coordinator does not hold the online key that the root names",
                fix="restore this folder from its newest backup, or have the keyholders sign a new key: "
                "`coordinator rotate`",
            )
        return load_signing(path)

    def _path(self, key_id: str) -> Path:
        return private_folder(self._folder) / f"{key_id[:16]}.key"
