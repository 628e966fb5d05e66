"""A party's identities over time: the one it signs with, the next one until the roster names it, and former ones.

Rules:
- A party signs with its current key until its own trust shows that the roster names the next one, and from then on
  with that: whoever verifies never meets a key that the keyholders have not signed.
- What others seal to the next or to a former key can be opened: the next at once, a former one until its grace ends.
  Then its private half is destroyed; the public half stays, to tell one's own past from a stranger's litter.
- Each change is one rename of a folder: a crash leaves the old order or the new one, or a gap that the next start
  closes. Processes that read and change the same keys take turns.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

from services.errors import TrustError
from services.files import private_folder, sync_folder
from services.home import FORMER, KEYS, NEXT, holds_party
from services.keyfile import read_public
from services.keys import Identity, PublicIdentity, SealingKey, SigningKey, VerifyKey, destroy, load_sealing
from services.trust import Roster


class KeyRing:
    """The identities in a party's private folder.

    Args:
        home: the party's private folder.

    Raises:
        TrustError: there are no keys, or a file is damaged.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        with taking_turns(home):
            if not (home / KEYS).exists() and (home / NEXT).exists() and (home / FORMER).exists():
                self._move(home / NEXT, home / KEYS)  # a crash came between the two renames of `follow`
            self._current = Identity.load(home / KEYS)
        self._next: Identity | None = None
        _ = self.next

    @classmethod
    def create(cls, home: Path, name: str) -> Self:
        """Draw a party's first identity.

        Raises:
            TrustError: there are keys already.
        """
        Identity.create(private_folder(home) / KEYS, name)
        return cls(home)

    @classmethod
    def ensure(cls, home: Path, name: str) -> Self:
        """The party's keys, drawn now where its private folder holds nothing of a party yet.

        Raises:
            TrustError: a state has lost its keys, or a file is damaged.
        """
        private_folder(home)
        with taking_turns(home):
            if not holds_party(home):
                Identity.create(home / KEYS, name)
        return cls(home)

    @property
    def name(self) -> str:
        """The party's name."""
        return self._current.name

    @property
    def public(self) -> PublicIdentity:
        """What the party shows of itself."""
        return self._current.public

    @property
    def signing(self) -> SigningKey:
        """The key that it signs with."""
        return self._current.signing

    @property
    def current(self) -> Identity:
        """The identity that the roster names, or is to name first."""
        return self._current

    @property
    def next(self) -> Identity | None:
        """The identity that waits for the roster to name it; a command may have drawn it a moment ago.

        Raises:
            TrustError: its files are damaged, or another party's.
        """
        if self._next is None and (self._home / NEXT).exists():
            with taking_turns(self._home):
                if not (self._home / NEXT).exists():
                    return None  # another process has just turned to it
                self._next = Identity.load(self._home / NEXT)
            if self._next.name != self.name:
                raise TrustError(f"the keys in {self._home / NEXT} are another party's", fix="remove that folder")
        return self._next

    @property
    def openers(self) -> tuple[SealingKey, ...]:
        """Every long-lived key that others may have sealed to."""
        later = (self.next.sealing,) if self.next else ()
        former = tuple(load_sealing(path) for path in sorted(self._home.glob(f"{FORMER}/*/sealing.key")))
        return (self._current.sealing, *later, *former)

    @property
    def signed_with(self) -> tuple[VerifyKey, ...]:
        """Every key that this party has ever signed with."""
        former = (read_public(path, PublicIdentity) for path in sorted(self._home.glob(f"{FORMER}/*/identity.json")))
        return (self.public.verify, *(one.verify for one in former))

    def draw_next(self) -> Identity:
        """The identity to change to, drawn now unless it was before."""
        return self.next or Identity.create(self._home / NEXT, self.name)

    def follow(self, roster: Roster, now: datetime) -> bool:
        """Do what the roster says of this party's keys; returns whether it now signs with the next one."""
        for folder in self._home.glob(f"{FORMER}/*"):
            verify = read_public(folder / "identity.json", PublicIdentity).verify
            destroy(folder / "signing.key")  # nothing is signed with it again
            if not any(one.verify == verify and now <= one.until for one in roster.former.get(self.name, ())):
                destroy(folder / "sealing.key")
        following = self.next
        if following is None or roster.members.get(self.name) != following.public:
            return False
        with taking_turns(self._home):
            (self._home / FORMER).mkdir(mode=0o700, exist_ok=True)
            self._move(self._home / KEYS, self._home / FORMER / self.public.verify.key_id[:16])
            self._move(self._home / NEXT, self._home / KEYS)
        self._current, self._next = following, None
        return True

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        source.rename(target)
        sync_folder(target.parent)
        sync_folder(source.parent)


@contextmanager
def taking_turns(home: Path) -> Iterator[None]:
    """Wait until no other process is between two renames, and let none be while the body runs."""
    try:
        folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TrustError(f"the private folder {home} cannot be read: {error.strerror}", fix="check its path") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
