"""A live session on RabbitMQ."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

from blocks.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    UnsupportedError,
)
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
from blocks.rabbitmq_broker.dead_letters import DeadLetters
from blocks.rabbitmq_broker.driver import Driver
from blocks.rabbitmq_broker.incoming import Incoming, to_delivery
from blocks.rabbitmq_broker.link import Endpoint, Link
from blocks.rabbitmq_broker.names import check_pattern, check_queue, check_topic, dead_queue
from blocks.rabbitmq_broker.publisher import Publisher
from blocks.rabbitmq_broker.reader import Reader, Receipt
from blocks.rabbitmq_broker.sender import Sender
from blocks.rabbitmq_broker.settler import Settler, by_reader
from blocks.rabbitmq_broker.topology import Layout, Topology

_logger = logging.getLogger(__name__)


class RabbitMQSession:
    """See `blocks.broker.Session`; made by `RabbitMQBroker.connect`.

    Two connections in one thread: one consumes and asks, the other publishes.
    """

    def __init__(
        self, endpoint: Endpoint, layout: Layout, *, lease: timedelta, prefetch: int
    ) -> None:
        self._address = endpoint.address
        self._lease = lease.total_seconds()
        self._prefetch = prefetch
        self._driver = Driver("rabbitmq-broker")
        self._link = Link(self._driver, endpoint, "noa-flows: consuming")
        self._publishing = Link(self._driver, endpoint, "noa-flows: publishing")
        self._topology = Topology(self._link, layout)
        self._sender = Sender(Publisher(self._publishing), self._topology, self._address)
        self._settler = Settler(self._sender)
        self._dead = DeadLetters(self._link, self._sender, self._topology)
        self._readers: dict[str, Reader] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Connect; see `RabbitMQBroker.connect` for what can go wrong."""
        self._driver.on_failure = self._drop
        self._driver.start()
        await self._link.open()

    async def declare(self, queue: str) -> None:
        """Declare the queue with what belongs to it; or check, where declaring is forbidden."""
        await self._topology.declare(queue)

    async def subscribe(self, queue: str, topic: str) -> None:
        """Bind the queue to the topic exchange; a pattern is RabbitMQ's own."""
        check_queue(queue)
        await self._topology.subscribe(queue, check_pattern(topic))

    async def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish to the topic exchange, which has confirmed what gets an id."""
        return _raised_if_all_failed(await self._sender.to_topic(check_topic(topic), messages))

    async def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish; the broker has confirmed each message that gets an id."""
        return _raised_if_all_failed(await self._sender.to_queue(check_queue(queue), messages))

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`; what a cancelled call had taken is given back, uncounted."""
        if lowest is not Band.LOW:
            raise UnsupportedError(
                f"{self._address} can't leave bands in a queue; consume all, or use several queues"
            )
        reader = await self._reader(queue)
        stop = asyncio.Event()
        most = min(max_messages, self._prefetch)
        taking = asyncio.create_task(reader.take(most, max(0, wait.total_seconds()), stop))
        try:
            incoming = await asyncio.shield(taking)
        except asyncio.CancelledError:
            stop.set()
            self._spawn(self._give_back(queue, reader, taking))
            raise
        except BrokerError:
            # A queue that was deleted is declared again by the next call.
            self._topology.forget(queue)
            raise
        return self._deliveries(queue, reader, incoming)

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Carry out the verdicts; the broker has read what is returned without an error."""
        return await self._settler.settle(outcomes)

    async def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Start the leases anew, which this session keeps; return what it still holds."""
        kept: set[int] = set()
        for reader, places in by_reader(deliveries).items():
            tags = await reader.renew([receipt.tag for receipt in places.values()])
            kept |= {place for place, receipt in places.items() if receipt.tag in tags}
        return [one for place, one in enumerate(deliveries) if place in kept]

    async def depth(self, queue: str) -> Depth:
        """Count the queues; what other sessions hold can't be seen, nor how old anything is."""
        check_queue(queue)
        ready, dead, delayed = (
            await self._topology.count(queue),
            await self._topology.count(dead_queue(queue)),
            await self._topology.delayed(queue),
        )
        reader = self._readers.get(queue)
        held, waiting = await reader.counts() if reader is not None and reader.is_open else (0, 0)
        return Depth(
            ready=(ready or 0) + waiting,
            in_flight=held,
            delayed=delayed,
            dead=dead or 0,
            oldest_age=None,
        )

    async def browse_dead(self, queue: str) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters, all of which are read before the first is shown."""
        for letter in await self._dead.all_of(queue):
            yield letter

    async def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """Redrive or discard; a redriven one is removed once the broker has confirmed it."""
        return await self._dead.settle(queue, fates)

    def _drop(self) -> None:
        self._link.drop()
        self._publishing.drop()

    async def close(self) -> None:
        """Give back what is held, uncounted, as far as the broker can be reached, and hang up."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._link.timeout)
            await self._give_back_everything()
        except BrokerError as error:
            _logger.warning("What was held comes again when the connection has ended: %s", error)
        finally:
            await self._publishing.close()
            await self._link.close()
            await self._driver.stop()

    async def _reader(self, queue: str) -> Reader:
        await self._topology.ensure(queue)
        reader = self._readers.get(queue)
        if reader is None or not reader.is_open:
            loop = asyncio.get_running_loop()
            reader = Reader(
                self._link,
                await self._link.channel(),
                queue,
                lease=self._lease,
                on_leftover=lambda late: _call(loop, self._return_leftover, queue, late),
            )
            await reader.open()
            self._readers[queue] = reader
        return reader

    def _deliveries(
        self, queue: str, reader: Reader, messages: Sequence[Incoming]
    ) -> list[Delivery]:
        for one in messages:
            # What has no id can't be known again; from here on, and when it is moved, it has one.
            one.properties.message_id = one.properties.message_id or uuid4().hex
        prioritised = self._sender.prioritised
        return [
            to_delivery(queue, one, Receipt(reader, one.tag), prioritised=prioritised)
            for one in messages
        ]

    async def _give_back(
        self, queue: str, reader: Reader, taking: "asyncio.Task[list[Incoming]]"
    ) -> None:
        try:
            taken = [*await taking, *await reader.rest()]
            await self._settler.give_back(self._deliveries(queue, reader, taken))
        except BrokerError as error:
            _logger.warning("What a cancelled call had taken comes again later: %s", error)

    async def _give_back_everything(self) -> None:
        for queue, reader in self._readers.items():
            if reader.is_open:
                await reader.rest()
                held = self._deliveries(queue, reader, await reader.held())
                await self._settler.give_back(held)

    def _return_leftover(self, queue: str, reader: Reader) -> None:
        """Give back what has come, and nobody has asked for."""

        async def give_back() -> None:
            with suppress(BrokerError):
                rest = self._deliveries(queue, reader, await reader.rest())
                await self._settler.give_back(rest)

        self._spawn(give_back())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _call(loop: asyncio.AbstractEventLoop, call: Any, *arguments: Any) -> None:
    with suppress(RuntimeError):  # the event loop has been closed meanwhile
        loop.call_soon_threadsafe(call, *arguments)


def _raised_if_all_failed(outcomes: Sequence[Published]) -> Sequence[Published]:
    errors = [outcome.error for outcome in outcomes]
    if errors and all(
        isinstance(error, BrokerUnavailableError | BrokerRefusedError) for error in errors
    ):
        raise errors[0] or BrokerUnavailableError("nothing was published")
    return outcomes
