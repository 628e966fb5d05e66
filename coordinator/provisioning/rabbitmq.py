"""RabbitMQ definitions for a federation: its virtual host, and for every party one user, one queue, three rights.

A party logs in by certificate only, publishes to one exchange only and only under its own name, reads only its own
queue, and configures nothing. Importing adds and updates but never removes: a party that left keeps its user, without
any right, and its queue fills up to its limit, until an operator runs `rabbitmqctl delete_user` and `delete_queue`.

A broker takes the user's name from the certificate, whoever signed it: one broker trusts one federation's authority.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from services.artifact import check_name
from services.bus.topology import DEAD_EXCHANGE, DEAD_QUEUE, EXCHANGE, QUEUE_PREFIX, binding_of, queue_of

# A connection that breaks while a notice is under way counts as a delivery: high enough for a bad line, and finite.
DELIVERY_LIMIT = 20
# A party that is away for long loses the oldest hints to the dead letters, finds everything by listing the store,
# and holds nobody else up.
MAX_NOTICES = 100_000
MAX_DEAD = 10_000
NOTHING = "^$"


def definitions(
    federation: str, parties: Iterable[str], former: Iterable[str] = (), *, delivery_limit: int = DELIVERY_LIMIT
) -> dict[str, Any]:
    """The definitions to import, for example with `rabbitmqctl import_definitions` or `load_definitions`.

    Args:
        federation: the federation's name, which its virtual host bears.
        parties: every party's name, the coordinator's too.
        former: parties that left: every right is taken from them.
        delivery_limit: how often a notice is delivered again before it is a dead letter.

    Raises:
        ValueError: a name is none.
    """
    vhost = check_name(federation)
    present = sorted({check_name(name) for name in parties})
    gone = sorted({check_name(name) for name in former} - set(present))
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": name,
                "password_hash": "",  # no password is ever right: the certificate is the only way in
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
            for name in sorted([*present, *gone])
        ],
        "permissions": [_rights(vhost, name) for name in present] + [_no_rights(vhost, name) for name in gone],
        "topic_permissions": [_topic(vhost, name, rf"^{re.escape(name)}\.[a-z0-9-]+$") for name in present]
        + [_topic(vhost, name, NOTHING) for name in gone],
        "exchanges": [_exchange(vhost, EXCHANGE, "topic"), _exchange(vhost, DEAD_EXCHANGE, "fanout")],
        "queues": [_queue(vhost, DEAD_QUEUE)] + [_queue(vhost, queue_of(name)) for name in present],
        "bindings": [_binding(vhost, DEAD_EXCHANGE, DEAD_QUEUE, "")]
        + [_binding(vhost, EXCHANGE, queue_of(name), binding_of(name)) for name in present],
        # policies, unlike a queue's arguments, can be changed while the queue lives
        "policies": [
            _policy(
                vhost,
                "silokit-notices",
                f"^{re.escape(QUEUE_PREFIX)}",
                {
                    "dead-letter-exchange": DEAD_EXCHANGE,
                    "delivery-limit": delivery_limit,
                    "max-length": MAX_NOTICES,
                    "overflow": "drop-head",
                },
            ),
            _policy(
                vhost,
                "silokit-dead",
                f"^{re.escape(DEAD_QUEUE)}$",
                {"max-length": MAX_DEAD, "overflow": "drop-head"},
            ),
        ],
    }


def _rights(vhost: str, name: str) -> dict[str, Any]:
    return {
        "user": name,
        "vhost": vhost,
        "configure": NOTHING,
        "write": f"^{re.escape(EXCHANGE)}$",
        "read": f"^{re.escape(queue_of(name))}$",
    }


def _no_rights(vhost: str, name: str) -> dict[str, Any]:
    return {"user": name, "vhost": vhost, "configure": NOTHING, "write": NOTHING, "read": NOTHING}


def _topic(vhost: str, name: str, write: str) -> dict[str, Any]:
    return {"user": name, "vhost": vhost, "exchange": EXCHANGE, "write": write, "read": NOTHING}


def _exchange(vhost: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "type": kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def _queue(vhost: str, name: str) -> dict[str, Any]:
    arguments = {"x-queue-type": "quorum"}
    return {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": arguments}


def _binding(vhost: str, source: str, queue: str, key: str) -> dict[str, Any]:
    return {
        "source": source,
        "vhost": vhost,
        "destination": queue,
        "destination_type": "queue",
        "routing_key": key,
        "arguments": {},
    }


def _policy(vhost: str, name: str, pattern: str, definition: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "pattern": pattern,
        "apply-to": "queues",
        "priority": 0,
        "definition": definition,
    }
