"""Whether a party's state is an old copy, or one of two: both would spend twice, and contradict themselves.

What a party published is signed by its keys and numbered, and lies in the store, a run's last manifest even after a
purge; its keys are named by the roster. A state that knows less of either is refused: at start, at every listing of
the store, and before anything new is reserved. This trusts the store not to hide anything, and sees nothing of what
never left: two copies that live at once both spend if both reserve before the first thing that either of them
published since they parted lies in the store. That is seconds where a run begins after that, for a silo says that it
joins; it is a whole training where the copy was made in the middle of one.
"""

from __future__ import annotations

from services.artifact import MAX_MANIFEST_BYTES, digest
from services.courier.door import MANIFEST_KEY, Door
from services.errors import InvalidArtifact, StateError
from services.keys import VerifyKey
from services.seal import verify
from services.state import State
from services.store import ObjectAbsent, ObjectTooLarge


class Past:
    """One party's own past.

    Args:
        state: the party's state.
        door: its keys, store and trust.
    """

    def __init__(self, state: State, door: Door) -> None:
        self._state = state
        self._door = door
        self._me = door.ring.name
        self._strange: set[str] = set()  # names under our prefix that we never signed

    def look_back(self) -> None:
        """Both looks; see `check_own_keys` and `check_own_past`."""
        self.check_own_keys()
        self.check_own_past()

    def check_own_keys(self) -> None:
        """Refuse to go on when the roster names this party with keys that it does not hold.

        Raises:
            TrustError: the trust is stale: it cannot be known yet.
            StateError: the state is a copy from before the keys changed.
        """
        named, ring = self._door.trust.roster.members.get(self._me), self._door.ring
        held = {*ring.signed_with, *([ring.next.public.verify] if ring.next else [])}
        if named is not None and named.verify not in held:
            raise _old(f"the roster names {self._me} with keys that this state does not hold")

    def check_own_past(self) -> None:
        """Refuse to go on when the store holds artifacts that this identity signed and this state does not know.

        Raises:
            StoreError: the store does not answer: it cannot be known yet.
            StateError: the state is an old copy, or two agents share one identity.
        """
        listed = list(self._door.store.list(f"{self._door.federation}/{self._me}/"))
        # after the listing: what this very agent puts into the store meanwhile is in its outbox before
        known = {row["digest"] for row in self._state.rows("SELECT digest FROM outbox")}
        for key in listed:
            match = MANIFEST_KEY.fullmatch(key)
            if not match or match[4] in known or key in self._strange:
                continue
            try:
                data = self._door.store.read(key, MAX_MANIFEST_BYTES)
            except (ObjectTooLarge, ObjectAbsent):
                continue
            if digest(data) != match[4] or not any(_signed_by(data, one) for one in self._door.ring.signed_with):
                self._strange.add(key)  # a stranger's litter under our prefix is no proof of anything
                continue
            what = f"the store holds an artifact of run {match[3]} that {self._me} signed and this state does not know"
            raise _old(what)


def _signed_by(manifest: bytes, key: VerifyKey) -> bool:
    try:
        verify(manifest, key)
    except InvalidArtifact:
        return False
    return True


def _old(what: str) -> StateError:
    return StateError(
        what,
        fix="restore the newest backup, or stop the other agent that uses these keys; where neither is possible, have"
        " the consortium retire this name and enrol under another, with a ceiling for life lowered by what was spent",
        kept="everything: nothing was sent, spent or changed since this was noticed",
    )
