"""A RabbitMQ broker as event bus, over mutual TLS: the broker knows every party by its certificate and by nothing else.

`announce` returns once a majority of the broker's nodes has the notice on disk. `consume` shows what the broker has
delivered so far, and shows it again until it is acknowledged. The connection lives on a thread of its own, which
sleeps until something happens; when it breaks, it comes back by itself, and what was not acknowledged comes again.
The party declares nothing: exchange, queues and rights are the consortium's to provision.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import structlog
from cryptography import x509
from pika import ConnectionParameters, SSLOptions
from pika.credentials import ExternalCredentials
from pydantic import BaseModel, ConfigDict, Field
from tenacity import Retrying, retry_if_result, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from services.bus import Notice
from services.bus.amqp import Outgoing, Owner, Refused, Session
from services.bus.cloudevent import read_event, write_event
from services.bus.diagnosis import Broker, Trouble, explain
from services.certificates import common_name, days_left, read_certificate
from services.errors import CONSORTIUM, InvalidArtifact, TrustError

LONGEST_PAUSE = 5.0  # seconds between two attempts to connect, at most
_log = structlog.get_logger()
# what pika would print about every attempt is said once, and for people, by `explain`
logging.getLogger("pika").setLevel(logging.CRITICAL)


class RabbitConfig(BaseModel):
    """Where the broker is and with which certificate this party shows itself there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(description="the broker's name, as its certificate says it")
    port: int = Field(default=5671, ge=1, le=65535, description="its port for AMQP over TLS")
    ca: Path = Field(description="the certificate of the authority that signed the broker's")
    certificate: Path = Field(description="this party's certificate, signed by the federation's authority")
    key: Path = Field(description="its private key, readable by this party only")
    heartbeat: int = Field(default=15, ge=5, le=600, description="seconds; a silent peer is given up after two")
    timeout: float = Field(default=10.0, gt=0, le=300, description="seconds to wait for a connection or a confirmation")

    def located(self, base: Path) -> Self:
        """The same configuration with every path made absolute from `base`."""
        paths = {"ca": base / self.ca, "certificate": base / self.certificate, "key": base / self.key}
        return self.model_copy(update=paths)


class RabbitBus:
    """An `EventBus` on a RabbitMQ broker; starts to connect at once and never ceases to try until it is closed.

    Args:
        config: the way to the broker.
        federation: whose virtual host it is.
        me: this party's name, which is also its certificate's.
    """

    def __init__(self, config: RabbitConfig, federation: str, me: str) -> None:
        self._config = config
        self._broker = Broker(config.host, config.port, federation, me)
        self._changed = threading.Condition()  # guards everything below
        self._notices: dict[str, Notice] = {}
        self._waiting: deque[Outgoing] = deque()
        self._session: Session | None = None
        self._publishing = self._reading = False
        self._link: Trouble | None = None  # why nothing goes at all
        self._queue: Trouble | None = None  # why nothing is read
        self._closed = threading.Event()
        self._owner = Owner(
            publishing=self._on_publishing,
            reading=self._on_reading,
            not_reading=self._on_not_reading,
            outgoing=self._on_outgoing,
            delivered=self._on_delivered,
        )
        self._thread = threading.Thread(target=self._live, name="bus", daemon=True)
        self._thread.start()

    def announce(self, recipient: str, notice: Notice) -> None:
        """See `EventBus.announce`."""
        broker = self._broker
        message = Outgoing(recipient, write_event(notice, broker.federation, broker.me, datetime.now(UTC)))
        with self._changed:
            if self._link is not None:
                raise self._link.error()
            self._waiting.append(message)
            if self._session is not None:
                self._session.call(self._session.publish)
        reason = _outcome(message, self._config.timeout)
        if reason is not None:
            raise explain(reason, broker, recipient).error() from reason

    def consume(self, limit: int = 100) -> list[Notice]:
        """See `EventBus.consume`."""
        with self._changed:
            trouble = self._link or self._queue
            if trouble is not None:
                raise trouble.error()
            return [notice for notice, _ in zip(self._notices.values(), range(limit), strict=False)]

    def acknowledge(self, notice: Notice) -> None:
        """See `EventBus.acknowledge`."""
        token = notice.token
        with self._changed:
            # a token of a lost connection is unknown by now: its notice comes again under another
            if self._notices.pop(token, None) is not None and (session := self._session) is not None:
                session.call(lambda: session.acknowledge(token))

    def wait_ready(self, seconds: float) -> None:
        """Wait until notices can be sent and received.

        Raises:
            BusError: why they cannot, at the first failure or after `seconds`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._link or self._queue or (self._publishing and self._reading), seconds)
            trouble = self._link or self._queue
            if trouble is None and not (self._publishing and self._reading):
                trouble = explain(TimeoutError(), self._broker)
        if trouble is not None:
            raise trouble.error()

    def close(self) -> None:
        """Send what was acknowledged, disconnect, and end the thread."""
        self._closed.set()
        with self._changed:
            if self._session is not None:
                self._session.call(self._session.close)
        self._thread.join(self._config.timeout)

    # the thread

    def _live(self) -> None:
        connect = Retrying(
            retry=retry_if_result(lambda worked: not worked),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE),
            sleep=sleep_using_event(self._closed),
            stop=stop_when_event_set(self._closed),
            retry_error_callback=lambda _: None,
        )
        while not self._closed.is_set():
            connect(self._one_session)
            # a broker that comes back should not meet a whole federation in the same moment
            self._closed.wait(random.uniform(0, 0.5))  # noqa: S311 - spreads load, hides nothing

    def _one_session(self) -> bool:
        """Connect and serve until the connection ends; returns whether it ever worked."""
        reason: BaseException = Refused("closed")
        session: Session | None = None
        try:
            session = Session(self._parameters(), self._broker.me, self._owner)
            with self._changed:
                if not self._closed.is_set():
                    self._session = session
            if self._session is not None:
                reason = session.run() or reason
        except Exception as error:  # noqa: BLE001 - whatever a broker sends must not end the thread
            reason = error
        if self._closed.is_set():
            reason = Refused("closed")
        with self._changed:
            worked = self._publishing
            self._session = None
            self._publishing = self._reading = False
            self._notices.clear()
            self._link = self._told(
                self._link, explain(Refused("closed") if self._closed.is_set() else reason, self._broker)
            )
            for message in self._on_outgoing():
                message.confirmed.set_exception(reason)
            self._changed.notify_all()
        if session is not None:
            session.dispose(reason)
        return worked

    def _parameters(self) -> ConnectionParameters:
        """How to connect, with the certificate as it is now: a renewed one counts from the next connection on."""
        config, me = self._config, self._broker.me
        own_certificate(config, me)
        context = tls_context(config)
        return ConnectionParameters(
            host=config.host,
            port=config.port,
            virtual_host=self._broker.federation,
            credentials=ExternalCredentials(),
            ssl_options=SSLOptions(context, config.host),
            heartbeat=config.heartbeat,
            socket_timeout=config.timeout,
            stack_timeout=config.timeout,
            blocked_connection_timeout=config.timeout * 6,
            client_properties={"connection_name": me},
        )

    # what the session tells, on its thread

    def _on_publishing(self) -> None:
        with self._changed:
            self._publishing, self._link = True, None
            self._changed.notify_all()

    def _on_reading(self) -> None:
        with self._changed:
            self._reading, self._queue = True, None
            self._changed.notify_all()
        _log.info("bus ready", broker=self._broker.host)

    def _on_not_reading(self, reason: BaseException) -> None:
        with self._changed:
            self._reading = False
            self._notices.clear()
            self._queue = self._told(self._queue, explain(reason, self._broker))
            self._changed.notify_all()

    def _on_outgoing(self) -> Iterator[Outgoing]:
        while self._waiting:
            message = self._waiting.popleft()
            # whoever no longer waits for a message has been told that it was not sent
            if message.confirmed.set_running_or_notify_cancel():
                yield message

    def _on_delivered(self, token: str, sender: str | None, body: bytes) -> bool:
        try:
            found = read_event(body, self._broker.federation, sender)
        except InvalidArtifact as error:
            _log.warning("dead letter", sender=sender, reason=error.what)
            return False
        with self._changed:
            self._notices[token] = Notice(found, token)
        return True

    def _told(self, before: Trouble | None, now: Trouble) -> Trouble:
        """Log a trouble when it is a new one."""
        if now != before and not self._closed.is_set():
            _log.warning("bus away", reason=now.what)
        return now


def own_certificate(config: RabbitConfig, me: str) -> x509.Certificate:
    """The certificate with which a party shows itself to the broker, as it is now.

    Raises:
        TrustError: it is absent, another's, or has expired.
    """
    certificate = read_certificate(config.certificate)
    if common_name(certificate) != me:
        raise TrustError(
            f"the certificate {config.certificate} is {common_name(certificate)!r}'s, not {me!r}'s",
            fix="point `certificate` and `key` at this party's own",
        )
    if days_left(certificate, datetime.now(UTC)) < 0:
        raise TrustError(
            f"the certificate {config.certificate} expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
            fix="make a certificate request and have the consortium sign it",
            who=CONSORTIUM,
        )
    return certificate


def tls_context(config: RabbitConfig) -> ssl.SSLContext:
    """How TLS is spoken with the broker.

    Raises:
        OSError: a file cannot be used.
    """
    context = ssl.create_default_context(cafile=str(config.ca))
    context.load_cert_chain(config.certificate, config.key)
    return context


def _outcome(message: Outgoing, seconds: float) -> BaseException | None:
    """Why a message was not confirmed; None when it was."""
    try:
        return message.confirmed.exception(seconds)
    except TimeoutError as error:
        message.confirmed.cancel()
        return error
