"""kill -9 at every boundary of publishing a change of the trust: it holds or it does not, and nobody ever sees half."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coordinator.trust.draft import Draft
from coordinator.trust.metadata import make_root, make_targets, roster_bytes
from coordinator.trust.repository import Repository
from services.keys import Identity, SigningKey
from services.store.folder import FolderStore
from services.trust import Roster
from services.trust.root import pin
from services.trust.tuf import TufTrust
from tests.faults.boundaries import Boundaries, Point, read_points

FED = "fed"


def now() -> datetime:
    return datetime.now(UTC)


class Consortium:
    """A federation's repository, its store and a member, in one folder that can be copied."""

    def __init__(self, folder: Path, holder: SigningKey) -> None:
        self.folder = folder
        self.holder = holder
        self.store = FolderStore(folder / "store")

    def publish(self, members: tuple[Identity, ...], *, anew: bool = False) -> None:
        """Publish who is a member, and with `anew` a new online key as well."""
        repository = Repository(self.folder / "repository", FED, now)
        founded = repository.founded
        roster = Roster(federation=FED, coordinator="hub", members={one.name: one.public for one in members})
        root = None
        if anew:
            number = repository.root.signed.version + 1 if founded else 1
            root = make_root(number, {"holder": self.holder.public}, 1, repository.draw_online().public, now())
        targets = make_targets(repository.targets.version + 1 if founded else 1, roster, now() + timedelta(days=7))
        before = repository.root if founded else None
        repository.publish(Draft.make(before, root, targets, roster_bytes(roster)).sign(self.holder))
        repository.upload(self.store)

    def trust(self) -> TufTrust:
        return TufTrust(FED, self.folder / "member", self.store)


def apart(work: Callable[[], None], boundaries: Boundaries) -> int:
    """Do something in a process of its own; returns what it ended with."""
    process = os.fork()
    if not process:
        boundaries.install()
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_change_of_the_trust_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    hub, north = (Identity.create(tmp_path / name, name) for name in ("hub", "north"))
    first = Consortium(tmp_path / "first", SigningKey.generate())
    first.publish((hub,), anew=True)
    pin(first.folder / "member", Repository(first.folder / "repository", FED, now).root_bytes)
    first.trust().look()

    def life(name: str) -> Consortium:
        shutil.copytree(first.folder, tmp_path / name, symlinks=True)
        return Consortium(tmp_path / name, first.holder)

    def change(one: Consortium) -> None:
        one.publish((hub, north), anew=True)

    clean = life("clean")
    record = tmp_path / "points"
    assert apart(lambda: change(clean), Boundaries(record=record)) == 0
    assert clean.trust().look().version == 2
    points: list[Point] = read_points(record)
    assert len(points) > 40
    for point in points:
        one = life("dying")
        assert apart(lambda: change(one), Boundaries(point)) == -signal.SIGKILL  # noqa: B023 - it runs at once
        seen = one.trust()
        seen.refresh()  # whatever lies in the store, it is the old trust, the new one, or refused for now
        assert set(seen.roster.members) in ({"hub"}, {"hub", "north"})
        after = Repository(one.folder / "repository", FED, now)
        after.upload(one.store)
        if after.targets.version == 1:
            change(one)
        assert set(one.trust().look().roster.members) == {"hub", "north"}, point
        shutil.rmtree(one.folder)
