"""What lies in a party's private folder: the names of its parts, and which of them make somebody that party."""

from __future__ import annotations

from pathlib import Path

KEYS, NEXT, FORMER = "keys", "keys-next", "keys-former"
"""The identity that a party signs with, the one that waits for the roster to name it, and those before."""
STATE_FILE = "state.sqlite"
TRUST_FOLDER = "trust"
"""The pinned root, and what was believed last."""
OUTBOX = "outbox"
"""Sealed artifacts that have yet to leave."""
LOCK = "lock"
"""Held by the process that is this party; in a folder of the home, by whoever changes that folder."""
RUNS, RUN_KEYS, LATE = "runs", "run-keys", "late"
"""Workspaces and received plaintext of runs, their keys, and what comes before a run's offer or after its end."""
RECENT = ("recent.log", "recent.log.1")
"""The service's last lines."""
PASSING = (RUNS, RUN_KEYS, LATE, LOCK, "control.sock", *RECENT)
"""What no backup holds: what a run's end destroys, and what belongs to one process."""
_PARTY = (KEYS, NEXT, FORMER, STATE_FILE, TRUST_FOLDER)


def holds_party(home: Path) -> bool:
    """Whether a private folder holds what makes somebody this party: keys of any age, a state, or a trust."""
    return any((home / name).exists() for name in _PARTY)
