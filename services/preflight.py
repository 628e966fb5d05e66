"""The way from this machine to store and broker, a step at a time: what stands in it, what to do, and whose task it is.

Every connection goes out from here, as a running party's do, through the same proxy and with the same certificates.
A step that fails ends only what needs it. What is written to measure the store is one object under the party's own
prefix, which is deleted again.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import cast
from urllib.parse import urlsplit

from cryptography import x509
from urllib3.exceptions import ProxyError

from services.bus.diagnosis import Broker
from services.bus.diagnosis import explain as explain_bus
from services.bus.rabbitmq import own_certificate
from services.bus.rabbitmq import tls_context as bus_context
from services.certificates import days_left, read_certificate
from services.errors import BROKER_OPERATOR, CONSORTIUM, MACHINE, STORE_OPERATOR, SilokitError
from services.expiry import NOTICE
from services.report import Caution, Report
from services.store import skew
from services.store.connections import MIB, Proxy, proxy_of
from services.store.connections import tls_context as store_context
from services.store.diagnosis import CLOCK, Place
from services.store.diagnosis import explain as explain_store
from services.store.probe import speed_key
from services.store.s3 import S3Config, S3Store
from services.tls import describe
from services.trust import SKEW
from services.wiring import PartyConfig

SLOW = 1e6
"""Bytes per second below which a line is called slow."""
_NOTED = timedelta(minutes=1)  # of a clock that is off, but borne
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class _Server:
    """A server, and the way to it.

    Args:
        title: how its rows begin.
        host: its name.
        port: its port.
        seconds: to wait for it.
        operator: who runs it.
        context: how TLS is spoken with it.
        explain: what a failure on the way means.
        proxy: through which it is reached.
    """

    title: str
    host: str
    port: int
    seconds: float
    operator: str
    context: Callable[[], ssl.SSLContext]
    explain: Callable[[BaseException], SilokitError]
    proxy: Proxy | None = None

    @property
    def first(self) -> tuple[str, int]:
        """Where a connection goes to first: the proxy, where there is one."""
        return self.proxy.address if self.proxy else (self.host, self.port)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say for people what goes wrong."""
        try:
            yield
        except (OSError, HTTPException, ValueError) as error:
            raise self.explain(error) from error

    def connect(self) -> socket.socket:
        """A connection to the server itself, through the proxy's tunnel where there is one."""
        if self.proxy is None:
            return socket.create_connection(self.first, self.seconds)
        way = HTTPConnection(*self.first, timeout=self.seconds)
        way.set_tunnel(self.host, self.port, self.proxy.headers)
        way.connect()
        return cast(socket.socket, way.sock)


def walk_to_store(report: Report, config: PartyConfig) -> bool:
    """Look at every step to the store; returns whether a signed request can be tried."""
    s3 = config.store.s3
    if s3 is None:
        return report.look("store way", lambda: "a folder: there is no network on the way")
    url = urlsplit(s3.endpoint)
    proxy = proxy_of(s3)
    place = Place(s3.endpoint, s3.bucket, config.name)

    def explain(error: BaseException) -> SilokitError:
        # behind a proxy, whatever happens before TLS happens there
        at_proxy = proxy is not None and not isinstance(error, ssl.SSLError)
        wrapped = ProxyError("", cast(Exception, error)) if at_proxy else error
        return explain_store(wrapped, "the store cannot be reached", place)

    server = _Server(
        title="store", host=cast(str, url.hostname), port=url.port or _PORTS[url.scheme], seconds=s3.connect_timeout,
        operator=STORE_OPERATOR, context=lambda: store_context(s3), explain=explain, proxy=proxy,
    )  # fmt: skip
    report.look("store proxy", lambda: _proxy(s3, proxy))
    reached = _reach(report, server)
    if url.scheme == "http":
        report.look("store TLS", _unencrypted)
    else:
        if proxy is not None:
            reached = report.look("store tunnel", lambda: _tunnel(server), after=reached)
        if (certificate := s3.certificate) is not None:
            report.look("store certificate", lambda: _own(read_certificate(certificate)))
        reached = report.look("store TLS", lambda: _shake_hands(server), after=reached)
    report.look("store clock", lambda: _clock(s3), after=reached)
    return reached


def walk_to_broker(report: Report, config: PartyConfig) -> bool:
    """Look at every step to the broker; returns whether a login can be tried."""
    rabbit = config.bus.rabbitmq
    if rabbit is None:
        return report.look("bus way", lambda: "an SQLite file: there is no network on the way")
    broker = Broker(rabbit.host, rabbit.port, config.federation, config.name)
    server = _Server(
        title="bus", host=rabbit.host, port=rabbit.port, seconds=rabbit.timeout, operator=BROKER_OPERATOR,
        context=lambda: bus_context(rabbit),
        explain=lambda error: explain_bus(error, broker).error(),
    )  # fmt: skip
    reached = _reach(report, server)
    own = report.look("bus certificate", lambda: _own(own_certificate(rabbit, config.name)))
    return report.look("bus TLS", lambda: _shake_hands(server), after=reached) and own


def measure_store(report: Report, config: PartyConfig, *, after: bool) -> None:
    """Look whether the store takes a body as large as an upload's part, and how fast it goes both ways."""
    s3 = config.store.s3
    if s3 is None:
        return
    key, content, up = speed_key(config.federation, config.name), os.urandom(s3.part_mib * MIB), 0.0

    def body() -> str:
        nonlocal up
        with closing(S3Store(s3)) as store:
            start = time.perf_counter()
            store.replace(key, content)
            up = len(content) / (time.perf_counter() - start)
        return f"{s3.part_mib} MiB (`part_mib`) in one request"

    def speed() -> str:
        with closing(S3Store(s3)) as store:
            start = time.perf_counter()
            store.read(key, len(content))
            down = len(content) / (time.perf_counter() - start)
            store.delete(key)
        what = f"{up / 1e6:.1f} MB/s up, {down / 1e6:.1f} MB/s down"
        if min(up, down) < SLOW:
            raise Caution(
                f"{what}: a gigabyte takes {1e9 / min(up, down) / 60:.0f} minutes",
                fix="give runs a long deadline, or have the line made faster",
                who=f"{CONSORTIUM} sets deadlines; the line is this institution's network people's",
            )
        return what

    taken = report.look("store body", body, after=after)
    report.look("store throughput", speed, after=taken)


def _reach(report: Report, server: _Server) -> bool:
    named = report.look(f"{server.title} name", lambda: _resolve(server))
    return report.look(f"{server.title} port", lambda: _open_port(server), after=named)


def _proxy(config: S3Config, proxy: Proxy | None) -> str:
    if proxy is not None:
        return "{}:{}, as the environment says; NO_PROXY does not except the store".format(*proxy.address)
    if urllib.request.getproxies().get(urlsplit(config.endpoint).scheme):
        return f"none: NO_PROXY excepts {urlsplit(config.endpoint).hostname}"
    return "none: the environment names none"


def _resolve(server: _Server) -> str:
    host, port = server.first
    with server.explained():
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return f"{host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}"


def _open_port(server: _Server) -> str:
    start = time.perf_counter()
    with server.explained(), socket.create_connection(server.first, server.seconds):
        took = time.perf_counter() - start
    return f"{server.first[1]}/tcp open after {took * 1000:.0f} ms"


def _tunnel(server: _Server) -> str:
    with server.explained(), server.connect():
        return f"the proxy lets this machine through to {server.host}:{server.port}"


def _unencrypted() -> str:
    raise Caution("none: `insecure` is set", fix="use https://, unless the store runs on this machine", who=MACHINE)


def _shake_hands(server: _Server) -> str:
    context = server.context
    with server.explained():
        try:
            version, certificate = _shown(server, context())
        except ssl.SSLCertVerificationError as error:
            found = server.explain(error)
            looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            looking.check_hostname, looking.verify_mode = False, ssl.CERT_NONE  # to show what was refused, no more
            _, refused = _shown(server, looking)
            raise SilokitError(f"{found.what}; it is {describe(refused)}", fix=found.fix, who=found.who) from error
    return _lasting(certificate, f"{version}, {describe(certificate)}", "renew the certificate", server.operator)


def _shown(server: _Server, context: ssl.SSLContext) -> tuple[str, x509.Certificate]:
    with server.connect() as raw, context.wrap_socket(raw, server_hostname=server.host) as secure:
        shown = cast(bytes, secure.getpeercert(binary_form=True))
        return str(secure.version()), x509.load_der_x509_certificate(shown)


def _own(certificate: x509.Certificate) -> str:
    fix = "enrol again with the same keys, and take the new admission"
    return _lasting(certificate, f"this party's, {describe(certificate)}", fix, f"{MACHINE}, with {CONSORTIUM}")


def _lasting(certificate: x509.Certificate, what: str, fix: str, who: str) -> str:
    left = days_left(certificate, datetime.now(UTC))
    if left < 0:
        raise SilokitError(what, fix=fix, who=who)
    if left < NOTICE.days:
        raise Caution(what, fix=fix, who=who)
    return what


def _clock(config: S3Config) -> str:
    with closing(S3Store(config)) as store:
        off = skew(store, lambda: datetime.now(UTC))
    if off is None:
        raise Caution("the store does not say what the time is", fix="compare this machine's clock", who=MACHINE)
    minutes = abs(off) / _NOTED
    way = "ahead of" if off > timedelta(0) else "behind"
    what = f"the store's is {minutes:.1f} minutes {way} this machine's; {SKEW / _NOTED:.0f} are borne"
    if abs(off) > SKEW:
        raise SilokitError(what, fix=CLOCK, who=f"{MACHINE}, then {STORE_OPERATOR}")
    if abs(off) > _NOTED:
        raise Caution(what, fix=CLOCK, who=f"{MACHINE}, then {STORE_OPERATOR}")
    return f"the store's and this machine's agree within {max(1, abs(off).total_seconds()):.0f} s"
