"""A store whose answers never end is refused at once, in bounded memory: objects, listings and errors alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.errors import StoreError
from services.store.credentials import StoreCredentials
from services.store.s3 import S3Config, S3Store
from tests.faults.measure import measured

KEY = "fed/north/run-1/object.body"
LIMIT = 1 << 20
Question = Callable[[S3Store, Path], object]
QUESTIONS: dict[str, Question] = {
    "get": lambda store, folder: store.get(KEY, folder / "object", LIMIT),
    "read": lambda store, _folder: store.read(KEY, LIMIT),
    "list": lambda store, _folder: list(store.list("fed/")),
    "stat": lambda store, _folder: store.stat(KEY),
    "put": lambda store, _folder: store.put(KEY, b"content"),
}
HEADERS = {
    "no length": {"Transfer-Encoding": "chunked"},
    "an enormous length": {"Content-Length": str(1 << 60)},
}


class Endless(ThreadingHTTPServer):
    """Answers every question with blanks, for as long as somebody reads them."""

    daemon_threads = True

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers = status, headers

    def handle_error(self, *_: object) -> None:
        """Nobody reads on: as it should be."""


class _Handler(BaseHTTPRequestHandler):
    server: Endless
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        block = b" " * (1 << 16)
        if "Transfer-Encoding" in self.server.headers:
            block = b"%x\r\n%s\r\n" % (len(block), block)
        while self.command != "HEAD":
            self.wfile.write(block)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endless(request: pytest.FixtureRequest) -> Iterator[Endless]:
    status, headers = request.param
    server = Endless(status, HEADERS[headers])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("endless", [(s, h) for s in (200, 404, 403) for h in HEADERS], indirect=True)
def test_an_endless_answer_is_refused_at_once(endless: Endless, tmp_path: Path, question: str) -> None:
    StoreCredentials(access_key="key", secret_key="secret").write(tmp_path / "store.json")
    config = S3Config(
        endpoint=f"http://127.0.0.1:{endless.server_port}", bucket="bucket", credentials=tmp_path / "store.json",
        insecure=True, patience=0,
    )  # fmt: skip
    store = S3Store(config)
    with measured() as cost:
        try:
            QUESTIONS[question](store, tmp_path)
        except StoreError:
            pass
        else:
            assert question in {"stat", "put"}  # which ask for no body
    assert cost.bearable, cost
    assert not (tmp_path / "object").exists()
    store.close()
