"""A live session with SQS."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from blocks.errors import BrokerError, UnsupportedError
from blocks.message import (
    Band,
    DeadLetter,
    Delivery,
    Depth,
    Message,
    Outcome,
    Published,
    Settled,
)
from blocks.sqs_broker.dead_letters import COUNTS, DeadLetters
from blocks.sqs_broker.held import Held
from blocks.sqs_broker.leases import Leases
from blocks.sqs_broker.names import Names
from blocks.sqs_broker.payload_store import PayloadStore
from blocks.sqs_broker.publisher import Limits, Publisher
from blocks.sqs_broker.queues import Queues, QueueSettings
from blocks.sqs_broker.reader import Reader
from blocks.sqs_broker.sender import Parcel, send, send_to_topic
from blocks.sqs_broker.settler import Settler
from blocks.sqs_broker.topics import Topics
from blocks.sqs_broker.wire import Wire

#: What SNS takes, whatever SQS takes.
_TOPIC_BYTES: Final = 256 * 1024


class SqsSession:
    """See `blocks.broker.Session`; made by `SqsBroker.connect`."""

    def __init__(
        self,
        wire: Wire,
        settings: QueueSettings,
        store: PayloadStore,
        limits: Limits,
        *,
        visibility: int,
    ) -> None:
        fifo, limit = settings.fifo, limits.message_bytes
        self._wire = wire
        self._limit = limit
        self._topic_limit = min(limit, _TOPIC_BYTES)
        self._queues = Queues(wire, settings)
        self._topics = Topics(wire, self._queues, fifo=fifo, may_declare=settings.may_declare)
        self._publisher = Publisher(store, limits, fifo=fifo)
        topic_limits = Limits(message_bytes=self._topic_limit, stored_bytes=limits.stored_bytes)
        self._broadcaster = Publisher(store, topic_limits, fifo=fifo)
        self._held = Held()
        self._leases = Leases(
            wire,
            self._queues,
            self._held,
            visibility=visibility,
            limit=limit,
            most=settings.max_receive_count,
        )
        self._settler = Settler(self._leases, store)
        self._reader = Reader(wire, self._queues, store, self._leases, self._settler)
        self._dead = DeadLetters(
            wire,
            self._queues,
            store,
            self._publisher,
            limit=limit,
            max_receive_count=settings.max_receive_count,
        )

    async def declare(self, queue: str) -> None:
        """Make the queue and its dead letters, or check them where `declare` is false."""
        await self._queues.declare(self._queues.names(queue))

    async def subscribe(self, queue: str, topic: str) -> None:
        """Subscribe the queue at SNS, and let SNS send to it."""
        await self._topics.subscribe(self._queues.names(queue), topic)

    async def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish to SNS, which copies each message to the queues that have subscribed."""
        arn = await self._topics.arn(topic)

        async def send_all(parcels: Sequence[Parcel]) -> Sequence[BrokerError | None]:
            return await send_to_topic(self._wire, arn, parcels, limit=self._topic_limit)

        return await self._broadcaster.publish(
            messages, send_all, folder=arn.rpartition(":")[2], to_topic=True
        )

    async def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish; SQS has answered for each message that gets an id."""
        names = self._queues.names(queue)

        async def send_all(parcels: Sequence[Parcel]) -> Sequence[BrokerError | None]:
            url = await self._queues.url(names.main)
            return await send(self._wire, url, parcels, limit=self._limit)

        published = await self._publisher.publish(messages, send_all, folder=names.main)
        if names.fifo:
            self._note_delays(names, messages, published)
        return published

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`; SQS waits in whole seconds, so half a second more or less."""
        if lowest is not Band.LOW:
            raise UnsupportedError(
                f"{self._wire.address} has no priorities: a receiver can't leave some of them"
            )
        return await self._reader.receive(self._queues.names(queue), max_messages, wait)

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Carry out the verdicts, ten a call, several calls at once."""
        return await self._settler.settle(outcomes)

    async def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Start the visibility time-outs anew."""
        return await self._leases.renew(deliveries)

    async def depth(self, queue: str) -> Depth:
        """Count as SQS does: late, and roughly while much is going on."""
        names = self._queues.names(queue)
        attributes = await self._queues.attributes(names.main)
        ready, in_flight, delayed = (int(attributes.get(name, 0)) for name in COUNTS)
        ahead, hidden = self._held.waiting(names)
        ahead, hidden = min(ahead, ready), min(hidden, in_flight)
        return Depth(
            ready=ready - ahead,
            in_flight=in_flight - hidden,
            delayed=delayed + ahead + hidden,
            dead=await self._dead.count(names),
            oldest_age=None,
        )

    def browse_dead(self, queue: str) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters; each is hidden from others while the walk goes on."""
        return self._dead.browse(self._queues.names(queue))

    async def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """Redrive or discard: send, then delete."""
        return await self._dead.settle(self._queues.names(queue), fates)

    async def close(self) -> None:
        """Give back what is held, as far as SQS can be reached, and hang up."""
        try:
            await self._reader.close()
            await self._dead.close()
        finally:
            await self._wire.close()

    def _note_delays(
        self, names: Names, messages: Sequence[Message], published: Sequence[Published]
    ) -> None:
        for message, outcome in zip(messages, published, strict=True):
            if message.delay and outcome.id is not None:
                self._held.send_ahead(names, outcome.id, message.delay.total_seconds())
