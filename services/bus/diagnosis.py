"""What is the matter with the broker, in words that name the next step: pika's errors, translated for people."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosed,
    ConnectionBlockedTimeout,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from services.bus import BusError
from services.bus.amqp import Refused
from services.errors import BROKER_OPERATOR, CONSORTIUM, MACHINE, NETWORK, TrustError
from services.tls import Peer

# what a peer objects to; pika passes it on as text, in one error or another
_ALERT = re.compile(r"ALERT_([A-Z_]+)")
PROVISION = "the consortium must provision the broker again"
KEPT = "notices wait in the outbox; the store is listed all the same"


@dataclass(frozen=True)
class Broker:
    """Whom a party talks to, and as whom."""

    host: str
    port: int
    federation: str
    me: str


@dataclass(frozen=True)
class Trouble:
    """What happened, what to do, and whose task that is."""

    what: str
    fix: str
    who: str

    def error(self) -> BusError:
        """The error that says so."""
        return BusError(self.what, fix=self.fix, kept=KEPT, who=self.who)


def explain(reason: BaseException, broker: Broker, recipient: str = "") -> Trouble:
    """What a failure means.

    Args:
        reason: the failure.
        broker: where it happened.
        recipient: for whom the message was, where it was about one.
    """
    errors = list(_causes(reason))
    for error in errors:
        for known in (_own_files, _tls, _login, _closed, _network):
            found = known(error, broker)
            if found is not None:
                return found
        if isinstance(error, Refused):
            return _refused(error, broker, recipient)
    said = errors[-1]
    return Trouble(
        f"the connection to the broker {broker.host}:{broker.port} broke ({str(said) or type(said).__name__})",
        "it is tried again; if it stays away, look at the broker's log",
        BROKER_OPERATOR,
    )


def _causes(reason: BaseException) -> Iterator[BaseException]:
    """The failure and everything that pika wrapped in it, outermost first."""
    yield reason
    inner = [getattr(reason, "exception", None), *getattr(reason, "exceptions", ()), *reason.args]
    for error in inner:
        if isinstance(error, BaseException):
            yield from _causes(error)


def _own_files(error: BaseException, _: Broker) -> Trouble | None:
    if isinstance(error, TrustError):
        return Trouble(error.what, error.fix, error.who or MACHINE)
    if isinstance(error, FileNotFoundError | PermissionError):
        return Trouble(
            f"a file for TLS cannot be read: {error.strerror}", "check `ca`, `certificate` and `key`", MACHINE
        )
    return None


def _tls(error: BaseException, broker: Broker) -> Trouble | None:
    where = f"{broker.host}:{broker.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Trouble(*Peer("the broker", where, "host", BROKER_OPERATOR).unverified(error))
    alert = _ALERT.search(str(error))
    if alert is not None:
        said = alert[1].replace("_", " ").lower()
        return Trouble(
            f"the broker {where} refuses this party's certificate ({said})",
            "have the consortium sign a new certificate request; the broker must trust the federation's authority",
            CONSORTIUM,
        )
    if not isinstance(error, ssl.SSLError):
        return None
    said = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version" in said or "record layer" in said or "eof" in said:
        return Trouble(
            f"the port {where} does not speak TLS ({said})",
            "use the broker's TLS port, as a rule 5671; no other is used",
            MACHINE,
        )
    return Trouble(f"TLS with the broker {where} fails ({said})", "check `ca`, `certificate` and `key`", MACHINE)


def _login(error: BaseException, broker: Broker) -> Trouble | None:
    me, host = broker.me, broker.host
    if isinstance(error, ProbableAuthenticationError):
        return Trouble(
            f"the broker {host} does not know the user {me}", f"{PROVISION}, with {me} in the roster", CONSORTIUM
        )
    if isinstance(error, ProbableAccessDeniedError):
        return Trouble(f"the broker {host} does not let {me} into {broker.federation}", PROVISION, CONSORTIUM)
    if isinstance(error, IncompatibleProtocolError):
        return Trouble(
            f"{host}:{broker.port} refuses the connection before a word is said",
            "check that this is the broker's TLS port and that the broker trusts the authority of `certificate`",
            BROKER_OPERATOR,
        )
    return None


def _closed(error: BaseException, broker: Broker) -> Trouble | None:
    if isinstance(error, ConnectionBlockedTimeout):
        return _refused(Refused("blocked"), broker, "")
    if not isinstance(error, ConnectionClosed | ChannelClosed):
        return None
    said = error.reply_text
    if error.reply_code in {403, 530}:
        return Trouble(f"the broker denies {broker.me} a right ({said})", PROVISION, CONSORTIUM)
    if error.reply_code == 404:
        return Trouble(f"the broker lacks what {broker.me} needs ({said})", PROVISION, CONSORTIUM)
    return Trouble(
        f"the broker {broker.host} closed the way ({error.reply_code} {said})",
        "it is tried again; if it stays so, see the broker's log",
        BROKER_OPERATOR,
    )


def _refused(error: Refused, broker: Broker, recipient: str) -> Trouble:
    if error.args == ("unroutable",):
        return Trouble(
            f"the broker has no queue for {recipient}", f"{PROVISION}, with {recipient} in the roster", CONSORTIUM
        )
    if error.args == ("blocked",):
        return Trouble(
            f"the broker {broker.host} takes no messages: its memory or disk is full",
            "the broker's operator must free space; sending goes on by itself then",
            BROKER_OPERATOR,
        )
    if error.args == ("nack",):
        return Trouble(
            f"the broker could not store a notice for {recipient}",
            "it is tried again; if it stays so, a majority of the broker's nodes is away",
            BROKER_OPERATOR,
        )
    if error.args == ("cancelled",):
        return Trouble(
            f"the broker ended the subscription of {broker.me}", f"if it stays away, {PROVISION}", CONSORTIUM
        )
    return Trouble("the connection to the broker is closed", "start the service again", MACHINE)


def _network(error: BaseException, broker: Broker) -> Trouble | None:
    where = f"{broker.host}:{broker.port}"
    if isinstance(error, socket.gaierror):
        return Trouble(
            f"the name {broker.host} does not resolve", "check `host` and this machine's name server", NETWORK
        )
    if isinstance(error, ConnectionRefusedError):
        return Trouble(
            f"nobody listens at {where}", "check `port`; if it is right, the broker is down", BROKER_OPERATOR
        )
    if isinstance(error, AMQPHeartbeatTimeout):
        return Trouble(f"the broker {where} has fallen silent", "it is tried again; check the network", NETWORK)
    if isinstance(error, TimeoutError | AMQPConnectorStackTimeout):
        return Trouble(
            f"the broker {where} does not answer in time",
            "check that a firewall lets this machine out to it; if so, the broker is overloaded",
            NETWORK,
        )
    return None
