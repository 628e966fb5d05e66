"""What runs out soon at this party, a sentence each, with who must do what: said in the log and by `check`."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from services.certificates import days_left, read_certificate
from services.enrolment import TLS_CERTIFICATE
from services.trust import Belief

ROSTER_NOTICE = timedelta(days=2)
NOTICE = timedelta(days=30)


def warnings(belief: Belief, home: Path, now: datetime) -> list[str]:
    """What expires soon or has expired.

    Args:
        belief: what this party believes.
        home: its private folder.
        now: the present.

    Raises:
        TrustError: the party's certificate is damaged.
    """
    found = []
    if belief.expires - now < ROSTER_NOTICE:
        found.append(
            f"the roster expires at {belief.expires:%Y-%m-%d %H:%M} UTC: the consortium must `coordinator renew`"
        )
    if belief.root_expires - now < NOTICE:
        found.append(f"the root expires on {belief.root_expires:%Y-%m-%d}: have it renewed (`coordinator renew`)")
    if (path := home / TLS_CERTIFICATE).exists():
        certificate = read_certificate(path)
        if days_left(certificate, now) < NOTICE.days:
            found.append(
                f"this party's certificate expires on {certificate.not_valid_after_utc:%Y-%m-%d}: "
                "enrol again with the same keys, and take the new admission"
            )
    return found
