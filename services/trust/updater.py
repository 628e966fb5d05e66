"""python-tuf's state machine, given the store to fetch from and the party's clock to go by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from services.errors import InvalidArtifact
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge
from services.trust import FOLDER, SKEW
from services.trust.catalog import Catalog, Listed, read_catalog

LIMIT = UpdaterConfig().targets_max_length
"""The longest of all metadata; each role's own limit holds besides."""


class StoreFetcher(FetcherInterface):
    """Lets python-tuf read the repository's folder in an object store."""

    def __init__(self, store: ObjectStore, federation: str) -> None:
        self._store = store
        self._prefix = f"{federation}/{FOLDER}"

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([self._store.read(f"{self._prefix}/{url.lstrip('/')}", LIMIT)])
        except ObjectAbsent as error:
            raise DownloadHTTPError(error.what, 404) from error
        except ObjectTooLarge as error:
            raise DownloadError(error.what) from error


class RosterUpdater(Updater):
    """An updater that goes by the party's clock, which may be a little off, and reads all catalogs at once."""

    def __init__(self, folder: Path, root: bytes, fetcher: StoreFetcher, now: datetime) -> None:
        super().__init__(
            metadata_dir=str(folder / "metadata"), metadata_base_url="/", target_dir=str(folder / "targets"),
            target_base_url="/targets/", fetcher=fetcher, bootstrap=root,
        )  # fmt: skip
        self._trusted_set.reference_time = now - SKEW

    @property
    def ends(self) -> dict[str, datetime]:
        """When each top-level role's metadata expires."""
        roles = {role: self._trusted_set[role] for role in ("root", "timestamp", "snapshot", "targets")}
        return {role: signed.expires.replace(tzinfo=UTC) for role, signed in roles.items()}

    @property
    def _targets(self) -> Targets:
        return cast(Targets, self._trusted_set[Targets.type])

    @property
    def version(self) -> int:
        """The version of the targets."""
        return int(self._targets.version)

    @property
    def catalog_versions(self) -> dict[str, int]:
        """Which version of each member's catalog is newest; whoever listed nothing yet is left out."""
        roles = self._targets.delegations.roles if self._targets.delegations else None
        meta = self._trusted_set.snapshot.meta
        return {name: meta[f"{name}.json"].version for name in roles or {} if f"{name}.json" in meta}

    def catalog(self) -> Catalog:
        """Every member's catalog; one that cannot be believed stands in nobody else's way.

        Raises:
            DownloadError: the store does not answer.
        """
        generators: dict[str, dict[str, Listed]] = {}
        faults: dict[str, str] = {}
        for name in self.catalog_versions:
            try:
                # what `get_targetinfo` does for one path: signature, threshold, expiry, and the snapshot's version,
                # length and hash, from the copy on the disk where that is the one
                generators[name] = read_catalog(name, self._load_targets(name, Targets.type))
            except (RepositoryError, DeserializationError) as error:
                faults[name] = f"its catalog is refused: {error}"
            except InvalidArtifact as error:
                faults[name] = f"its catalog is refused: {error.what}"
            except DownloadError as error:
                if not _is_missing(error):
                    raise
                faults[name] = "its catalog is not in the store, or too large"
        return Catalog(generators, faults)


def _is_missing(error: BaseException | None) -> bool:
    """Whether a download failed because of what lies in the store, and not because the store is away."""
    while error is not None:
        if isinstance(error, (ObjectAbsent, ObjectTooLarge)):
            return True
        error = error.__cause__
    return False
