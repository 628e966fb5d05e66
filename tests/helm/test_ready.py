"""What `helm test` runs: it waits for a party, repeats in plain words why it is not ready, and fails if it stays so."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from deploy.servers.ports import free_ports
from deploy.tools.charts import HELM

SCRIPT = (HELM / "common" / "files" / "ready.py").read_text()


@contextmanager
def party(*answers: tuple[int, str]) -> Iterator[str]:
    """A party that gives these answers in turn, and the last one from then on; its address."""
    left = list(answers)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/readyz"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(address: str, seconds: float) -> tuple[int, list[str]]:
    """Run the script as the pod does, with less patience; its exit status and what it said."""
    script = SCRIPT.replace("SECONDS = 60.0", f"SECONDS = {seconds}").replace("PAUSE = 2.0", "PAUSE = 0.1")
    done = subprocess.run(
        [sys.executable, "-c", script, address], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_party_that_becomes_ready_passes_and_each_reason_is_said_once() -> None:
    away = (503, '{"reasons": ["the broker is away"]}')
    with party(away, away, (503, '{"reasons": ["the roster is stale"]}'), (200, '{"ready": true}')) as address:
        status, said = ask(address, 60)
    assert (status, said) == (
        0,
        [
            'not ready: {"reasons": ["the broker is away"]}',
            'not ready: {"reasons": ["the roster is stale"]}',
            'ready: {"ready": true}',
        ],
    )


def test_a_party_that_is_not_enrolled_fails_with_its_own_words() -> None:
    with party((503, '{"reasons": ["not enrolled yet: run silo-agent enroll"]}')) as address:
        assert ask(address, 0.3) == (1, ['not ready: {"reasons": ["not enrolled yet: run silo-agent enroll"]}'])


def test_a_party_that_is_not_there_fails_with_its_address() -> None:
    (port,) = free_ports(1)
    status, (said,) = ask(f"http://127.0.0.1:{port}/readyz", 0.3)
    assert status == 1
    assert f"no answer from http://127.0.0.1:{port}/readyz" in said
