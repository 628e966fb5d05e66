"""`check --network` finds each thing that stands in the way, says whose task it is, and goes on where it can."""

from __future__ import annotations

import io
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console

from coordinator.provisioning.s3 import new_credentials
from services.bus.rabbitmq import RabbitConfig
from services.certificates import Authority, make_key, request, write_key
from services.checks import check_party
from services.keyring import KeyRing
from services.preflight import measure_store, walk_to_broker, walk_to_store
from services.report import Report
from services.store.probe import speed_key
from services.store.s3 import S3Config
from services.wiring import BusConfig, PartyConfig, StoreConfig
from tests.wire.broker import FEDERATION, Broker
from tests.wire.objects import Objects
from tests.wire.proxy import Proxy, Tunnel, Weather

pytest_plugins = ["tests.wire.fixtures", "tests.wire.object_fixtures"]
Rows = dict[str, tuple[str, str]]
AUTHORITY = Authority.make("heart authority")


class Desk:
    """One party's configuration, and what its checks found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report = Report(Console(file=io.StringIO(), width=400))
        (folder / "ca.crt").write_bytes(AUTHORITY.pem)
        new_credentials().write(folder / "credentials.json")
        write_key(folder / "north.key", key := make_key())
        (folder / "north.crt").write_bytes(AUTHORITY.sign_party(request(key, "north"), "north"))

    def config(self, s3: S3Config | None = None, rabbitmq: RabbitConfig | None = None) -> PartyConfig:
        return PartyConfig(
            federation=FEDERATION, name="north", home=self.folder / "state",
            store=StoreConfig(s3=s3) if s3 else StoreConfig(folder=self.folder / "store"),
            bus=BusConfig(rabbitmq=rabbitmq) if rabbitmq else BusConfig(sqlite=self.folder / "bus"),
        )  # fmt: skip

    def s3(self, port: int, host: str = "localhost") -> S3Config:
        paths = {"credentials": self.folder / "credentials.json", "ca": self.folder / "ca.crt"}
        return S3Config(**{"endpoint": f"https://{host}:{port}", "bucket": "artifacts", "part_mib": 5, **paths})

    def rabbit(self, port: int, host: str = "localhost") -> RabbitConfig:
        paths = {name: self.folder / file for name, file in (
            ("ca", "ca.crt"), ("certificate", "north.crt"), ("key", "north.key"),
        )}  # fmt: skip
        return RabbitConfig(**{"host": host, "port": port, **paths})

    def walk(self, server: str, port: int, host: str = "localhost") -> Rows:
        if server == "store":
            walk_to_store(self.report, self.config(self.s3(port, host)))
        else:
            walk_to_broker(self.report, self.config(rabbitmq=self.rabbit(port, host)))
        return self.rows()

    def check(self, s3: S3Config | None = None, rabbitmq: RabbitConfig | None = None) -> Rows:
        KeyRing.create(self.folder / "state", "north")
        check_party(self.report, self.config(s3, rabbitmq), network=True)
        return self.rows()

    def rows(self) -> Rows:
        """Each row's verdict and everything that it says, by its name."""
        self.report.show()
        found: Rows = {}
        name = ""
        for line in self.report._console.file.getvalue().splitlines()[1:]:
            if parts := re.fullmatch(r" (ok|no|warn|-) {2,}(\w+(?: \w+)?) {2,}(.*)", line):
                name = parts[2]
                found[name] = (parts[1], parts[3].strip())
            else:
                found[name] = (found[name][0], f"{found[name][1]}\n{line.strip()}")
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path)


@contextmanager
def server(
    folder: Path, authority: Authority | None = AUTHORITY, *, host: str = "localhost", days: float = 365,
    ahead: timedelta = timedelta(0),
) -> Iterator[int]:  # fmt: skip
    """A small HTTPS server with its own idea of the time, whose front takes no large body; plain without authority."""

    class Front(BaseHTTPRequestHandler):
        server_version, sys_version = "nginx", ""
        protocol_version = "HTTP/1.1"

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        def do_HEAD(self) -> None:
            self._answer(403)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(413)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up is what is tested."""

    listening = Quiet(("127.0.0.1", 0), Front)
    if authority is not None:
        key, made = make_key(), datetime.now(UTC) - timedelta(days=10)
        signed = authority.sign_server(request(key, "store"), "store", [host], days=days + 10, now=made)
        pem = folder / "server.pem"
        pem.write_bytes(signed + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield listening.server_address[1]
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_clear_way_is_walked_to_its_end_and_leaves_nothing_behind(
    desk: Desk, objects: Objects, broker: Broker
) -> None:
    found = desk.check(objects.config("north"), broker.config("north", days=90))
    assert {name for name, (verdict, _) in found.items() if verdict == "ok"} == {
        "keys", "store proxy", "store name", "store port", "store TLS", "store clock", "store", "store body",
        "store throughput", "bus name", "bus port", "bus certificate", "bus TLS", "bus",
    }  # fmt: skip
    assert "TLSv1.3" in found["store TLS"][1]
    assert "signed by CN=heart authority" in found["bus TLS"][1]
    with objects.store("north") as store:
        assert speed_key(FEDERATION, "north") not in list(store.list(f"{FEDERATION}/north/"))


def test_without_servers_it_says_that_there_is_no_network(desk: Desk) -> None:
    walk_to_store(desk.report, desk.config())
    walk_to_broker(desk.report, desk.config())
    found = desk.rows()
    assert "no network" in found["store way"][1]
    assert "no network" in found["bus way"][1]


@pytest.mark.parametrize("title", ["store", "bus"])
def test_a_name_that_does_not_resolve_stops_what_needs_it(desk: Desk, title: str) -> None:
    found = desk.walk(title, 1, "no.such.invalid")
    assert found[f"{title} name"][0] == "no"
    assert "does not resolve" in found[f"{title} name"][1]
    assert "who: this institution's network people" in found[f"{title} name"][1]
    assert found[f"{title} port"][0] == found[f"{title} TLS"][0] == "-"
    assert not desk.report.passed


@pytest.mark.parametrize("title", ["store", "bus"])
def test_a_closed_port_is_its_operators(desk: Desk, title: str) -> None:
    found = desk.walk(title, closed_port())
    assert found[f"{title} name"][0] == "ok"
    assert re.search(r"listens at.*\nfix: .*\nwho: the (store|broker)'s operator", found[f"{title} port"][1])
    assert found[f"{title} TLS"][0] == "-"


@pytest.mark.parametrize("title", ["store", "bus"])
def test_a_port_without_tls_is_said_to_be_one(desk: Desk, tmp_path: Path, title: str) -> None:
    with server(tmp_path, None) as port:
        found = desk.walk(title, port)
    assert found[f"{title} port"][0] == "ok"
    assert found[f"{title} TLS"][0] == "no"
    assert "does not speak TLS" in found[f"{title} TLS"][1]


@pytest.mark.parametrize("title", ["store", "bus"])
@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (
            {"authority": Authority.make("rogue")},
            r"signed by CN=rogue.*\nfix: .*\nwho: who runs this machine, then this",
        ),
        ({"host": "other.example"}, r"it is for other\.example.*\nfix: .*\nwho: who runs this machine, or the"),
        ({"days": -2}, r"expired on.*\nfix: renew.*\nwho: the (store|broker)'s operator"),
    ],
)
def test_a_certificate_that_does_not_hold_is_shown_with_who_must_mend_it(
    desk: Desk, tmp_path: Path, title: str, planted: dict[str, Any], said: str
) -> None:
    with server(tmp_path, **planted) as port:
        found = desk.walk(title, port)
    verdict, shown = found[f"{title} TLS"]
    assert verdict == "no"
    assert "does not hold" in shown
    assert re.search(said, shown)


def test_a_certificate_that_ends_soon_is_a_warning(desk: Desk, tmp_path: Path) -> None:
    with server(tmp_path, days=10) as port:
        found = desk.walk("store", port)
    assert found["store TLS"][0] == "warn"
    assert "10 days left" in found["store TLS"][1]
    assert "who: the store's operator" in found["store TLS"][1]
    assert desk.report.passed


def test_an_expired_certificate_of_ones_own_is_found_before_the_login(desk: Desk, broker: Broker) -> None:
    found = desk.check(rabbitmq=broker.config("north", days=-0.5))
    assert found["bus certificate"][0] == "no"
    assert "expired" in found["bus certificate"][1]
    assert "who: the consortium" in found["bus certificate"][1]
    assert found["bus TLS"][0] == "ok"
    assert found["bus"][0] == "-"


def test_a_certificate_of_ones_own_by_another_authority_is_refused_at_the_login(desk: Desk, broker: Broker) -> None:
    found = desk.check(rabbitmq=broker.config("north", authority=Authority.make("rogue"), days=90))
    assert found["bus TLS"][0] == "ok"
    assert found["bus"][0] == "no"
    # the broker says why, and hangs up, and its hanging up may overtake its word
    said = ("refuses this party's certificate", "refuses the connection before a word is said")
    assert any(word in found["bus"][1] for word in said)
    assert "who: " in found["bus"][1]


@pytest.mark.parametrize(("minutes", "verdict"), [(-30, "no"), (30, "no"), (3, "warn"), (0, "ok")])
def test_clocks_that_differ_are_measured(desk: Desk, tmp_path: Path, minutes: int, verdict: str) -> None:
    with server(tmp_path, ahead=timedelta(minutes=minutes)) as port:
        found = desk.walk("store", port)
    assert found["store clock"][0] == verdict
    assert ("NTP" in found["store clock"][1]) == bool(minutes)
    assert ("behind" in found["store clock"][1]) == (minutes < 0)


def test_a_front_that_takes_no_large_body_is_named(desk: Desk, tmp_path: Path) -> None:
    with server(tmp_path) as port:
        measure_store(desk.report, desk.config(desk.s3(port)), after=True)
    found = desk.rows()
    assert found["store body"][0] == "no"
    assert "413 from nginx" in found["store body"][1]
    assert "client_max_body_size" in found["store body"][1]
    assert "whoever runs that proxy" in found["store body"][1]
    assert found["store throughput"][0] == "-"


def test_a_slow_line_is_a_warning_with_what_it_means(desk: Desk, objects: Objects) -> None:
    with Proxy(objects.server.port, Weather(rate=900_000)) as proxy:
        measure_store(desk.report, desk.config(objects.config("north", proxy.port)), after=True)
    verdict, said = desk.rows()["store throughput"]
    assert verdict == "warn"
    assert "a gigabyte takes" in said


def test_a_tunnel_is_gone_through_as_a_party_does(
    desk: Desk, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tunnel(objects.server.port) as tunnel:
        monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{tunnel.port}")
        walk_to_store(desk.report, desk.config(objects.config("north")))
        found = desk.rows()
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert f"127.0.0.1:{tunnel.port}" in found["store proxy"][1]
    assert f"localhost:{objects.server.port}" in found["store tunnel"][1]
    assert {line.split()[1] for line in tunnel.asked} == {f"localhost:{objects.server.port}"}
    assert "secret" not in str(found)


def test_a_proxy_that_is_down_is_told_from_a_store_that_is_down(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    with server(tmp_path) as port:
        found = desk.walk("store", port)
    assert found["store port"][0] == "no"
    assert "the proxy on the way" in found["store port"][1]
    assert "who: this institution's network people" in found["store port"][1]


def test_a_proxy_that_lets_nobody_through_is_quoted(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path, None) as proxy:  # a web server, which knows no CONNECT
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
        found = desk.walk("store", 9000)
    assert found["store port"][0] == "ok"
    assert found["store tunnel"][0] == "no"
    assert "501" in found["store tunnel"][1]


def test_no_proxy_excepts_the_store(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("no_proxy", "localhost")
    with server(tmp_path) as port:
        found = desk.walk("store", port)
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert "NO_PROXY excepts localhost" in found["store proxy"][1]
