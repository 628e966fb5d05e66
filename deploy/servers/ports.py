"""Free TCP ports on this machine."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below the range from which the kernel takes ports for outgoing connections: there, a client that knocks at a
# stopped server may be given that server's own port, connect to itself, and keep the server from coming back.
_RANGE = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Distinct ports that were free a moment ago; start what needs them soon."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    raise OSError(f"fewer than {count} ports are free on this machine")
