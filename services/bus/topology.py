"""The broker's topology: which exchange, which queue, which routing key. Provisioning declares it, parties use it.

One virtual host per federation. A notice from `north` to `south` is published to the exchange under the routing key
`north.south`; the queue of `south` is bound to `*.south`. Names contain no dot, so the key has exactly two words, and
a right to publish under `north.` is a right to speak as north and as nobody else. What cannot be delivered goes to
the dead letters, where an operator looks.
"""

from __future__ import annotations

EXCHANGE = "silokit.notices"
DEAD_EXCHANGE = "silokit.dead"
DEAD_QUEUE = "silokit.dead"
QUEUE_PREFIX = "silokit.party."


def queue_of(party: str) -> str:
    """The queue that only this party reads."""
    return QUEUE_PREFIX + party


def binding_of(party: str) -> str:
    """What is routed to this party: notices from anybody."""
    return f"*.{party}"


def routing_key(sender: str, recipient: str) -> str:
    """Under which a notice is published."""
    return f"{sender}.{recipient}"
