"""One connection to a RabbitMQ broker, from its opening to its loss; nothing of it is touched by two threads.

It has two channels: a refusal closes the channel on which it happened, so that what cannot be published does not keep
the party from reading, nor the other way round. Publishing never waits: confirmations come back to each message's
future. A subscription that the broker ends is taken up again, for a queue may be provisioned anew. Only a lost
connection ends the session; whoever runs it starts another.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from pika import BasicProperties, ConnectionParameters, DeliveryMode, SelectConnection, spec
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.exceptions import ChannelClosedByClient
from pika.frame import Method

from services.bus.cloudevent import CONTENT_TYPE
from services.bus.topology import EXCHANGE, queue_of, routing_key

PREFETCH = 500  # notices that wait unacknowledged at a party; the rest waits at the broker
RESUBSCRIBE = 1.0  # seconds until a subscription that the broker ended is tried again


class Refused(Exception):
    """The broker did not take a message, or no longer serves a queue, and said so in one word."""


@dataclass(eq=False)
class Outgoing:
    """A message on its way; `confirmed` ends when the broker has it safely, or with the reason why not."""

    recipient: str
    body: bytes
    confirmed: Future[None] = field(default_factory=Future)


@dataclass(frozen=True)
class Owner:
    """What whoever runs a session is told and asked, on the session's thread.

    Args:
        publishing: messages can be published from now on.
        reading: the queue is subscribed to from now on.
        not_reading: it is not, for this reason; what was delivered unacknowledged will be delivered again.
        outgoing: takes the messages that wait.
        delivered: a message has come, with its token, the sender that the broker attests, if it does, and its body;
            says whether it is a notice at all, else it goes to the dead letters.
    """

    publishing: Callable[[], None]
    reading: Callable[[], None]
    not_reading: Callable[[BaseException], None]
    outgoing: Callable[[], Iterator[Outgoing]]
    delivered: Callable[[str, str | None, bytes], bool]


class Session:
    """One connection.

    Args:
        parameters: where to and how.
        me: the party's name, which the broker compares with the certificate's.
        owner: who is told what happens.
    """

    def __init__(self, parameters: ConnectionParameters, me: str, owner: Owner) -> None:
        self._me = me
        self._owner = owner
        self._loop = IOLoop()
        self._end: BaseException | None = None
        self._publisher: Channel | None = None
        self._published = 0
        self._pending: dict[int, Outgoing] = {}
        self._blocked = False
        self._reader: Channel | None = None
        self._subscribed = False
        self._patience = float(parameters.stack_timeout)
        self._epoch = ""
        self._connection = SelectConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            custom_ioloop=self._loop,
        )

    def run(self) -> BaseException | None:
        """Serve until the connection ends; returns why it did."""
        self._loop.start()
        return self._end

    def dispose(self, reason: BaseException) -> None:
        """Free what the session held, and tell whoever waits for a confirmation; nobody may `call` it any more."""
        self._fail(reason)
        self._loop.close()

    def call(self, function: Callable[[], None]) -> None:
        """Have the session's thread call a function soon: the one thing that other threads may ask of it."""
        self._loop.add_callback_threadsafe(function)

    # asked of the session, on its own thread

    def publish(self) -> None:
        """Publish what waits, as soon as that is possible."""
        if self._publisher is None:
            return
        for message in self._owner.outgoing():
            if self._blocked:
                message.confirmed.set_exception(Refused("blocked"))
                continue
            self._published += 1
            self._pending[self._published] = message
            self._publisher.basic_publish(
                EXCHANGE,
                routing_key(self._me, message.recipient),
                message.body,
                BasicProperties(
                    content_type=CONTENT_TYPE,
                    delivery_mode=DeliveryMode.Persistent.value,
                    user_id=self._me,  # the broker refuses any other name than the connection's
                    message_id=str(self._published),  # by which a returned message is known again
                ),
                mandatory=True,
            )

    def acknowledge(self, token: str) -> None:
        """Have the broker forget a message; nothing happens when its subscription is over."""
        epoch, tag = token.split("-")
        if self._reader is not None and epoch == self._epoch:
            self._reader.basic_ack(int(tag))

    def close(self) -> None:
        """End the session in order, after what was asked before."""
        if not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()

    # the connection

    def _opened(self, connection: SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._open_publisher()
        self._open_reader()

    def _ended(self, _: SelectConnection, reason: BaseException) -> None:
        self._end = reason
        self._publisher = self._reader = None
        self._loop.stop()

    def _on_blocked(self, *_: object) -> None:
        self._blocked = True
        self._fail(Refused("blocked"))

    def _on_unblocked(self, *_: object) -> None:
        self._blocked = False

    # publishing

    def _open_publisher(self) -> None:
        self._published = 0
        self._connection.channel(on_open_callback=self._publisher_open)

    def _publisher_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._publisher_closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=partial(self._may_publish, channel))

    def _may_publish(self, channel: Channel, _: Method) -> None:
        self._publisher = channel
        self._owner.publishing()
        self.publish()

    def _publisher_closed(self, _: Channel, reason: BaseException) -> None:
        self._publisher = None
        self._fail(reason)
        if self._connection.is_open:
            self._open_publisher()

    def _returned(self, _: Channel, __: spec.Basic.Return, properties: BasicProperties, ___: bytes) -> None:
        # the confirmation that follows a return finds nobody waiting
        message = self._pending.pop(int(properties.message_id or 0), None)
        if message is not None:
            message.confirmed.set_exception(Refused("unroutable"))

    def _confirmed(self, frame: Method) -> None:
        answer, last = frame.method, frame.method.delivery_tag
        for tag in [one for one in self._pending if one == last or (answer.multiple and one < last)]:
            future = self._pending.pop(tag).confirmed
            if isinstance(answer, spec.Basic.Ack):
                future.set_result(None)
            else:
                future.set_exception(Refused("nack"))

    def _fail(self, reason: BaseException) -> None:
        pending, self._pending = self._pending, {}
        for message in pending.values():
            message.confirmed.set_exception(reason)

    # reading

    def _open_reader(self) -> None:
        if self._connection.is_open:
            self._connection.channel(on_open_callback=self._reader_open)

    def _reader_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._reader_closed)
        channel.add_on_cancel_callback(partial(self._cancelled, channel))
        channel.basic_qos(prefetch_count=PREFETCH, callback=partial(self._subscribe, channel))

    def _subscribe(self, channel: Channel, _: Method) -> None:
        self._reader, self._epoch, self._subscribed = channel, secrets.token_hex(8), False
        channel.basic_consume(queue_of(self._me), self._delivered, callback=self._may_read)
        # a queue whose nodes agree on no leader neither answers nor refuses
        self._loop.call_later(self._patience, partial(self._still_silent, self._epoch))

    def _may_read(self, _: Method) -> None:
        self._subscribed = True
        self._owner.reading()

    def _still_silent(self, epoch: str) -> None:
        if self._reader is not None and self._epoch == epoch and not self._subscribed:
            self._owner.not_reading(TimeoutError())

    def _delivered(
        self, channel: Channel, method: spec.Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        sender = properties.user_id
        attested = sender is not None and method.routing_key == routing_key(sender, self._me)
        token = f"{self._epoch}-{method.delivery_tag}"
        if not self._owner.delivered(token, sender if attested else None, body):
            channel.basic_reject(method.delivery_tag, requeue=False)

    def _cancelled(self, channel: Channel, _: Method) -> None:
        self._reader = None
        self._owner.not_reading(Refused("cancelled"))
        channel.close()

    def _reader_closed(self, _: Channel, reason: BaseException) -> None:
        self._reader = None
        if self._connection.is_open:
            if not isinstance(reason, ChannelClosedByClient):
                self._owner.not_reading(reason)
            self._loop.call_later(RESUBSCRIBE, self._open_reader)
