"""`Trust` by python-tuf: fetches the federation's metadata from the object store and believes what leads to the root.

python-tuf is the state machine: it verifies signatures and thresholds, and refuses what is older, expired, mixed, or
signed for another's path. This module gives it the store to fetch from and the party's clock, and remembers what was
believed, so that a party starts without the store and knows how stale its trust is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import structlog
from pydantic import ValidationError
from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.serialization import DeserializationError

from services.artifact import canonical_json, parse_json
from services.errors import BadSignature, InvalidArtifact, SilokitError, StateError, StoreError, TrustError
from services.files import TEMPORARY, private_folder, write_atomic
from services.keys import PublicIdentity, VerifyKey
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge
from services.trust import MAX_ROSTER_BYTES, ROSTER, SKEW, Belief, Found, Roster
from services.trust.catalog import Catalog
from services.trust.root import pinned
from services.trust.updater import LIMIT, RosterUpdater, StoreFetcher

BELIEVED = "believed.json"
_log = structlog.get_logger()
News = Callable[[Belief | None, Belief], None]


class TufTrust:
    """See `Trust`; safe for several threads.

    Args:
        federation: whose members.
        folder: private; holds the pinned root, and what was believed last.
        store: where the repository lies.
        clock: the present.
        news: called after every look, by one thread at a time, with the belief before it and the belief now.

    Raises:
        TrustError: no root is pinned, or what lies in the folder is damaged.
    """

    def __init__(
        self,
        federation: str,
        folder: Path,
        store: ObjectStore,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        news: News = lambda _before, _now: None,
    ) -> None:
        self.folder = folder
        self._federation = federation
        self._store = store
        self._clock = clock
        self._news = news
        self._root = pinned(folder)
        self._belief = _remembered(folder)
        self._looked: datetime | None = None
        self._trouble = ""
        self._looking = threading.Lock()
        for half_written in (*folder.glob(f"{TEMPORARY}*"), *(folder / "metadata").glob("tmp*")):
            half_written.unlink(missing_ok=True)  # a crash left it

    @property
    def known(self) -> Belief | None:
        """What was believed last, fresh or stale; None when nothing ever was."""
        return self._belief

    @property
    def belief(self) -> Belief:
        """What is believed.

        Raises:
            TrustError: nothing yet, or nothing any more.
        """
        if self._belief is None:
            raise TrustError(
                "no roster of the federation is known yet" + (f": {self._trouble}" if self._trouble else ""),
                fix="the coordinator must run and reach the store; check that the store is the federation's",
            )
        if self._clock() - SKEW > self._belief.fresh_until:
            raise TrustError(
                f"the trust is stale since {self._belief.fresh_until:%Y-%m-%d %H:%M} UTC"
                + (f": {self._trouble}" if self._trouble else ""),
                fix="the coordinator must run and reach the store; check this machine's clock too",
                kept="local work goes on; nothing is joined or accepted until then",
            )
        return self._belief

    @property
    def roster(self) -> Roster:
        """See `Trust.roster`."""
        return self.belief.roster

    @property
    def coordinator(self) -> str:
        """See `Trust.coordinator`."""
        return self.roster.coordinator

    def member(self, name: str) -> PublicIdentity:
        """See `Trust.member`."""
        found = self.roster.members.get(name)
        if found is None:
            raise TrustError(f"{name} is not a member of {self._federation}", fix="ask the consortium to admit it")
        return found

    def verified(self, sender: str, noticed: datetime, check: Callable[[VerifyKey], Found]) -> Found:
        """See `Trust.verified`."""
        try:
            return self._under_its_keys(sender, check)
        except BadSignature:
            if self._looked is not None and self._looked > noticed:
                raise
            self.look()
            return self._under_its_keys(sender, check)

    def _under_its_keys(self, sender: str, check: Callable[[VerifyKey], Found]) -> Found:
        roster = self.roster
        if sender not in roster.members:
            raise BadSignature("the sender is not a member of the federation")
        now = self._clock()
        for former in roster.former.get(sender, ()):
            if now <= former.until:
                try:
                    return check(former.verify)
                except BadSignature:
                    continue
        return check(roster.members[sender].verify)

    def refresh(self) -> None:
        """See `Trust.refresh`.

        Raises:
            StateError: what is kept here is an old copy.
        """
        try:
            self.look()
        except StateError:
            raise
        except SilokitError as error:
            if error.what != self._trouble:  # once, and again when it is another
                _log.warning("trust not refreshed", reason=error.what)
            self._trouble = error.what

    def look(self) -> Belief:
        """Fetch what is newest.

        Raises:
            TrustError: what the store shows is not what the root leads to; the belief stays as it is.
            StoreError: the store does not answer.
        """
        with self._looking:
            began = self._clock()
            try:
                updater = self._updater()
                updater.refresh()
                roster = _parse(self._read(updater, ROSTER, MAX_ROSTER_BYTES))
            except DownloadError as error:
                raise _not_had(error) from error
            except (RepositoryError, DeserializationError) as error:
                raise _refused(error) from error
            if roster.federation != self._federation:
                raise TrustError(f"the roster is of another federation, {roster.federation}")
            ends, version = updater.ends, updater.version
            believed = Belief(
                roster=roster, version=version, expires=ends["targets"], root_expires=ends["root"],
                fresh_until=min(ends.values()), catalogs=updater.catalog_versions,
            )  # fmt: skip
            before, self._belief = self._belief, believed
            self._looked, self._trouble = began, ""
            if before != believed:
                write_atomic(self.folder / BELIEVED, canonical_json(believed.model_dump(mode="json")))
            self._news(before, believed)
        return believed

    def catalog(self) -> Catalog:
        """What every member lists today, all of one moment.

        Raises:
            TrustError, StoreError: as `look`.
        """
        self.look()
        with self._looking:
            try:
                updater = self._updater()
                updater.refresh()
                return updater.catalog()
            except DownloadError as error:
                raise _not_had(error) from error
            except (RepositoryError, DeserializationError) as error:
                raise _refused(error) from error

    def target(self, name: str, limit: int) -> bytes | None:
        """A published target's bytes by its name, for example `north/generator.json`; None when there is none.

        Raises:
            TrustError, StoreError: as `look`.
        """
        with self._looking:
            try:
                return self._read(self._updater(), name, limit)
            except DownloadError as error:
                raise _not_had(error) from error
            except (RepositoryError, DeserializationError) as error:
                raise _refused(error) from error

    def _updater(self) -> RosterUpdater:
        fetcher = StoreFetcher(self._store, self._federation)
        return RosterUpdater(self.folder, self._root, fetcher, self._clock())

    @staticmethod
    def _read(updater: RosterUpdater, name: str, limit: int) -> bytes | None:
        found = updater.get_targetinfo(name)
        if found is None:
            return None
        if found.length > limit:
            raise TrustError(f"the target {name} is longer than {limit} bytes", fix="tell the member that signs it")
        private_folder(Path(cast(str, updater.target_dir)))
        return Path(updater.find_cached_target(found) or updater.download_target(found)).read_bytes()


def _parse(data: bytes | None) -> Roster:
    if data is None:
        raise TrustError("the keyholders have signed no roster", fix="tell the consortium")
    try:
        return Roster.model_validate(parse_json(data, MAX_ROSTER_BYTES))
    except (InvalidArtifact, ValidationError) as error:
        raise TrustError("the roster that the keyholders signed is malformed", fix="tell the consortium") from error


def _remembered(folder: Path) -> Belief | None:
    try:
        return Belief.model_validate(parse_json((folder / BELIEVED).read_bytes(), LIMIT))
    except FileNotFoundError:
        return None
    except (InvalidArtifact, ValidationError) as error:
        raise TrustError(f"{folder / BELIEVED} is damaged", fix="remove it: it is fetched again") from error


def _refused(error: Exception) -> TrustError:
    if isinstance(error, ExpiredMetadataError) and any(role in str(error) for role in ("root", "targets")):
        return TrustError(
            f"the roster has expired ({error})",
            fix="the consortium must have it signed anew: `coordinator renew`",
            kept="local work goes on; nothing is joined or accepted until then",
        )
    if isinstance(error, ExpiredMetadataError):
        return TrustError(
            f"nothing fresh lies in the store ({error})",
            fix="the coordinator must run and reach the store; check this machine's clock too",
            kept="local work goes on; nothing is joined or accepted until then",
        )
    return TrustError(
        f"the store's trust metadata is refused: {error}",
        fix="if this lasts, somebody may be tampering with the store: tell the consortium",
        kept="what was believed before stays in force until it expires",
    )


def _not_had(error: DownloadError) -> SilokitError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ObjectTooLarge):
            return _refused(error)
        if isinstance(cause, StoreError) and not isinstance(cause, ObjectAbsent):
            return cause
        cause = cause.__cause__
    return TrustError(
        f"the store lacks trust metadata ({error})",
        fix="the coordinator must run and reach the store; check that the store is the federation's",
    )
