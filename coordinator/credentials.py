"""What the consortium issues beside the roster: certificates for the wire and credentials for the store.

Everything is made once and kept: issuing again for a member hands out the same credentials, and touches nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from coordinator.provisioning.s3 import new_credentials
from services.certificates import Authority
from services.errors import ConfigError, StateError
from services.files import private_folder
from services.store.credentials import StoreCredentials, read_credentials


class Issuer:
    """The federation's authority and what it has issued.

    Args:
        home: the coordinator's private folder.
        federation: whose authority it is.
    """

    def __init__(self, home: Path, federation: str) -> None:
        self._folder = private_folder(home / "authority")
        self._store = private_folder(self._folder / "store")
        self._federation = federation

    @cached_property
    def authority(self) -> Authority:
        """The authority, founded when it is first asked for."""
        if not any(self._folder.glob("authority.*")):
            Authority.make(f"{self._federation} authority").save(self._folder)
        return Authority.load(self._folder)

    def certificate(self, name: str, request: bytes) -> bytes:
        """Sign a member's certificate request; returns the certificate, PEM.

        Raises:
            TrustError: the request does not hold, or is not this member's.
        """
        return self.authority.sign_party(request, name)

    def credentials(self, name: str) -> StoreCredentials:
        """A member's store credentials, drawn when they are first asked for.

        Raises:
            StateError: the file that keeps them is damaged.
        """
        path = self._path(name)
        if not path.exists():
            new_credentials().write(path)
        try:
            return read_credentials(path)
        except ConfigError as error:
            raise StateError(f"{path} is damaged", fix="restore it from the backup") from error

    def keep_only(self, members: Iterable[str]) -> None:
        """Take back what was issued to others; their names stay known, and would be issued anew."""
        for path in self._store.glob("*.json"):
            if path.stem not in set(members):
                path.replace(path.with_suffix(".retired"))

    @property
    def retired(self) -> tuple[str, ...]:
        """The names of members that were retired, and to whom nothing was issued since."""
        names = (path.stem for path in self._path("x").parent.glob("*.retired"))
        return tuple(sorted(name for name in names if not self._path(name).exists()))

    def _path(self, name: str) -> Path:
        return self._store / f"{name}.json"
