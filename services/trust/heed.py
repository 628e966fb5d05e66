"""What a party does about news of the trust: it writes changes down, follows them with its keys, and warns in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from services.chain import Chain
from services.expiry import warnings
from services.keyring import KeyRing
from services.trust import Belief
from services.trust.tuf import News

_log = structlog.get_logger()


def heeding(home: Path, ring: KeyRing, audit: Chain, clock: Callable[[], datetime]) -> News:
    """What a party does about what it believes.

    Args:
        home: its private folder.
        ring: its keys.
        audit: where changes are written down.
        clock: the present.
    """
    said: set[str] = set()

    def heed(before: Belief | None, now: Belief) -> None:
        if before is None or before.version != now.version:
            old = before.roster.members if before else {}
            new = now.roster.members
            changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
            audit.append(
                "roster believed", clock(), version=now.version, joined=sorted(new.keys() - old.keys()),
                left=sorted(old.keys() - new.keys()), changed=changed,
            )  # fmt: skip
        if ring.follow(now.roster, clock()):
            audit.append("keys changed", clock(), key=ring.public.verify.key_id)
        for warning in set(warnings(now, home, clock())) - said:
            said.add(warning)
            _log.warning("expires soon", what=warning)

    return heed
