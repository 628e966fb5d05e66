"""What a silo of a running kit can reach, seen from inside it: broker and store, and of these only what serves it.

By hand: `docker compose -f deploy/compose.yaml exec -T admissions python3 - < tests/compose/probe.py`
"""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

TLS = Path("/var/lib/silokit/state/tls")
OPEN = [("broker", 5671), ("store", 9000)]
CLOSED = [
    *(("store", port) for port in (8080, 8888, 9333, 18080, 18888, 19333)),
    *(("broker", port) for port in (4369, 5672, 15672, 25672)),
    ("prometheus", 9090), ("alertmanager", 9093), ("grafana", 3000),
    *((party, 9464) for party in ("coordinator", "laboratory", "outcomes")),
]  # fmt: skip
GATED = [("broker", 15692), ("store", 19000)]
"""Open to whoever shows a certificate of another authority than the members'."""


def reaches(host: str, port: int) -> bool:
    """Whether a connection stands."""
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


def lets_in(host: str, port: int) -> bool:
    """Whether this member is let in with the certificate that its admission brought."""
    context = ssl.create_default_context(cafile=TLS / "authority.crt")
    context.load_cert_chain(TLS / "party.crt", TLS / "party.key")
    try:
        with context.wrap_socket(socket.create_connection((host, port), 5), server_hostname=host) as line:
            line.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return bool(line.recv(1))
    except OSError:
        return False


def main() -> None:
    """Print what is otherwise than it should be; ends with an exit code of 0 where nothing is."""
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    wrong = [f"{host}:{port} is out of reach" for host, port in OPEN if not reaches(host, port)]
    wrong += [f"{host}:{port} is open" for host, port in CLOSED if reaches(host, port)]
    wrong += [f"{host}:{port} lets a member in" for host, port in GATED if lets_in(host, port)]
    wrong += ["there is a way out" for route in routes if route.split()[1] == "00000000"]
    print(
        "\n".join(wrong) or f"as it should be: {len(OPEN)} open, {len(CLOSED)} closed, {len(GATED)} gated, no way out"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
