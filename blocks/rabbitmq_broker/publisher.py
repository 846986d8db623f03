"""Publishing with confirms: an outcome each, however many are under way."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pika import BasicProperties, spec

from blocks.errors import BrokerError, BrokerUnavailableError, UnroutableError
from blocks.rabbitmq_broker.channel import Channel
from blocks.rabbitmq_broker.driver import Answer
from blocks.rabbitmq_broker.errors import translate
from blocks.rabbitmq_broker.link import Link
from blocks.rabbitmq_broker.outgoing import Outgoing

# What is under way at once is written, and confirmed, within the time-out.
_CHUNK_MESSAGES: Final = 500
_CHUNK_BYTES: Final = 8 * 1024 * 1024


#: An error, or none, for each message.
_Told = list[BaseException | None]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with the place it is published to."""

    exchange: str
    routing_key: str
    content: Outgoing
    #: It is an error if no queue takes it.
    mandatory: bool = True


@dataclass(eq=False, slots=True)
class _Batch:
    parcels: Sequence[Parcel]
    answer: Answer[_Told]
    errors: _Told
    missing: int


class Publisher:
    """The publishing half of a session, on a connection of its own.

    RabbitMQ stops reading from whoever publishes while it is short of memory or disk; what is
    acknowledged then has to come through all the same.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._confirms: _Confirms | None = None
        self._opening = asyncio.Lock()

    async def publish(self, parcels: Sequence[Parcel]) -> list[BrokerError | None]:
        """Publish, and return None for each that the broker has confirmed, else its error.

        When the connection breaks while confirms are awaited, the messages may have been taken or
        not; each has a `BrokerUnavailableError`.
        """
        errors: list[BrokerError | None] = []
        for chunk in _chunks(parcels):
            try:
                errors += await self._publish(chunk)
            except BrokerError as error:
                errors += [error] * (len(parcels) - len(errors))
                break
        return errors

    async def _publish(self, parcels: Sequence[Parcel]) -> list[BrokerError | None]:
        confirms = await self._open()
        with self._link.explained():
            told = await self._link.driver.ask(confirms.publishing(parcels), self._link.timeout)
        return [None if one is None else translate(one, self._link.address) for one in told]

    async def _open(self) -> "_Confirms":
        async with self._opening:
            if self._confirms is None or not self._confirms.channel.is_open:
                channel = await self._link.channel()
                confirms = _Confirms(channel, self._link.address)
                with self._link.explained():
                    await channel.call(confirms.select)
                self._confirms = confirms
            return self._confirms


class _Confirms:
    """A channel in confirm mode. Everything here runs in the driver's thread."""

    def __init__(self, channel: Channel, address: str) -> None:
        self.channel = channel
        self._address = address
        self._last = 0
        #: Sequence number → what it belongs to, in the order of publishing.
        self._pending: dict[int, tuple[_Batch, int]] = {}

    def select(self, raw: Any, reply: Any) -> None:
        """Begin to confirm."""
        raw.add_on_return_callback(self._returned)
        self.channel.when_closed(self._lost)
        raw.confirm_delivery(self._confirmed, callback=reply)

    def publishing(self, parcels: Sequence[Parcel]) -> Callable[[Answer[_Told]], None]:
        """Publish all, and answer when each of them has been confirmed, or never will be."""
        return lambda answer: self._begin(parcels, answer)

    def _begin(self, parcels: Sequence[Parcel], answer: Answer[_Told]) -> None:
        batch = _Batch(parcels, answer, [None] * len(parcels), len(parcels))
        for place, parcel in enumerate(parcels):
            self.channel.raw.basic_publish(
                parcel.exchange,
                parcel.routing_key,
                parcel.content.body,
                parcel.content.properties,
                mandatory=parcel.mandatory,
            )
            self._last += 1
            self._pending[self._last] = (batch, place)

    def _returned(
        self, _channel: object, method: Any, properties: BasicProperties, _body: bytes
    ) -> None:
        # The confirm comes after the return; which of several equal messages it was, is all one.
        for batch, place in self._pending.values():
            parcel = batch.parcels[place]
            place_of_return = (method.exchange, method.routing_key)
            if (
                batch.errors[place] is None
                and place_of_return == (parcel.exchange, parcel.routing_key)
                and parcel.content.properties.message_id == properties.message_id
            ):
                batch.errors[place] = self._unroutable(method)
                return

    def _unroutable(self, method: Any) -> UnroutableError:
        if not method.exchange:
            return UnroutableError(
                f"{self._address} has no queue {method.routing_key!r}; declare it first"
            )
        return UnroutableError(
            f"{self._address} has no queue that is bound to the exchange {method.exchange!r} for "
            f"{method.routing_key!r}; declare the queue again"
        )

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        refused = isinstance(method, spec.Basic.Nack)
        tag = method.delivery_tag
        tags = [one for one in self._pending if one <= tag] if method.multiple else [tag]
        for one in tags:
            if (pending := self._pending.pop(one, None)) is not None:
                self._settle(*pending, self._overflow() if refused else None)

    def _overflow(self) -> BrokerError:
        return BrokerUnavailableError(
            f"{self._address} didn't take the message: the queue is full, or its leader is away; "
            "try again, or raise its limit"
        )

    def _lost(self, reason: BaseException) -> None:
        pending, self._pending = self._pending, {}
        for batch, place in pending.values():
            self._settle(batch, place, reason)

    @staticmethod
    def _settle(batch: _Batch, place: int, error: BaseException | None) -> None:
        batch.errors[place] = batch.errors[place] or error
        batch.missing -= 1
        if not batch.missing:
            batch.answer.give(batch.errors)


def _chunks(parcels: Sequence[Parcel]) -> Iterator[Sequence[Parcel]]:
    chunk: list[Parcel] = []
    size = 0
    for parcel in parcels:
        chunk.append(parcel)
        size += len(parcel.content.body)
        if len(chunk) >= _CHUNK_MESSAGES or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
